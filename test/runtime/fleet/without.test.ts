/** An object whose next deployment has no reports: its own alarm comes at its time, and what it has to tell is told by a later deployment. */
import { expect, it } from "vitest";
import { withFleetReports } from "../../../src/fleet/index.ts";
import { withTransactionalInbox } from "../../../src/inbox/index.ts";
import { withTransactionalOutbox } from "../../../src/index.ts";
import { crash, eventually, inside, native, onBothBackends, redeclared, type Stub } from "../support/harness.ts";
import { foreign, InboxBox, receive } from "../support/inbox.ts";
import { destination, reporter } from "../support/reporter.ts";
import { Box, options } from "../support/worker.ts";

const ownAlarm = (stub: Stub) => inside(stub, (_, __, { storage }) => storage.getAlarm());
const nativeAlarm = (stub: Stub) => inside(stub, (_, __, state) => native(state).getAlarm());

onBothBackends("a deployment without an extension", (backend) => {
  const plain = withTransactionalOutbox(class extends Box {}, options);

  it("leaves the object its own alarm, where the alarm is set for a report", async () => {
    const { stub } = reporter(backend, {}, (cls) =>
      withFleetReports(withTransactionalOutbox(cls, options), { namespace: "boxes", delaySeconds: 60 }),
    );
    destination(stub, "rejects");
    const time = Date.now() + 3_600_000;
    await inside(stub, (_, __, { storage }) => storage.setAlarm(time));
    await inside(stub, (_, outbox) => outbox.send("a"));
    await eventually(() => inside(stub, async (_, outbox) => (await outbox.stats()).dead === 1));
    expect(await nativeAlarm(stub)).toBeLessThan(time);
    const next = await crash(redeclared(stub, plain));
    expect(await ownAlarm(next)).toBe(time);
    await eventually(async () => (await nativeAlarm(next)) === time);
    expect(await ownAlarm(await crash(next))).toBe(time);
  });

  it("leaves it, where the alarm is set for the inbox", async () => {
    const { stub } = reporter(backend, {}, () =>
      withTransactionalInbox(withTransactionalOutbox(class extends InboxBox {}, options), { retentionSeconds: 60 }),
    );
    const time = Date.now() + 3_600_000;
    await inside(stub, (_, __, { storage }) => storage.setAlarm(time));
    await receive(stub, foreign("a"), () => {});
    expect(await nativeAlarm(stub)).toBeLessThan(time);
    const next = await crash(redeclared(stub, plain));
    expect(await ownAlarm(next)).toBe(time);
    await eventually(async () => (await nativeAlarm(next)) === time);
  });
});
