/** Every action of the inspector, on both backends and in both orders of the wrappers: what it does, and what it says of what is gone. */
import { expect, it } from "vitest";
import { INSPECTOR_ACTIONS, type InspectorCommand } from "../../../src/inspector/wire.ts";
import { desk as deskFor, deskOf, end, onBoth } from "../support/inspected.ts";
import { stageFor } from "../support/inspected-worker.ts";

/** One command of each action, on an object that has a destination `default`. */
export const COMMANDS: readonly InspectorCommand[] = [
  { action: "flush" },
  { action: "pause", destination: "default" },
  { action: "resume" },
  { action: "retry", destination: "default", ids: ["none"] },
  { action: "cancel", destination: "default", ids: ["none"] },
  { action: "redrive" },
  { action: "discard", destination: "default", ids: ["none"] },
  { action: "drop", destination: "default", deadLetters: false },
  { action: "rewind", destination: "default", to: 1 },
];

onBoth("the inspector", (namespace) => {
  const outcome = (action: string, count: number, gone = 0) => ({ status: 200, body: { action, count, gone } });

  it("shows destinations, their numbers and positions, the log and the alarm", async () => {
    const desk = deskFor(namespace);
    const { id } = desk.stub;
    stageFor(id).rest = () => Promise.reject(new Error("the destination is down"));
    await desk.within((outbox) => outbox.send({ type: "order" }));
    await desk.until(async (outbox) => (await outbox.stats()).breaker === "open");
    await desk.within(async (outbox, state) => {
      await outbox.send({ type: "order" }, { delaySeconds: 600 });
      await state.storage.setAlarm(Date.now() + 3_600_000);
    });
    const { status, body } = await desk.get("object");
    expect(status).toBe(200);
    expect(body).toMatchObject({ id: id.toString(), position: 2, log: { first: 1, last: 2 } });
    expect(body.destinations.map(({ name }: { name: string }) => name).sort()).toEqual(["default", "other"]);
    const [first] = body.destinations.filter(({ name }: { name: string }) => name === "default");
    expect(first).toMatchObject({
      position: 0,
      pending: 1,
      delayed: 1,
      dead: 0,
      breaker: "open",
      error: "the destination is down",
      types: null,
    });
    expect(first.nextAttemptAt).toBeGreaterThan(0);
    expect(body.alarm.own).toBeGreaterThan(body.now + 3_000_000);
    expect(body.alarm.outbox).toBeGreaterThan(0);
    expect(await desk.get("messages", { state: "pending", destination: "default" })).toMatchObject({
      status: 200,
      body: { more: false, messages: [{ sequence: 1, type: "order", payload: { text: '{\n  type: "order"\n}' } }] },
    });
    expect((await desk.get("log", { direction: "backward" })).body).toMatchObject({
      earliest: 1,
      messages: [{ position: 2 }, { position: 1 }],
    });
  });

  it("pauses and resumes once, and says so where it was done already", async () => {
    const desk = deskFor(namespace);
    await desk.within((outbox) => outbox.send({ type: "other" }, { delaySeconds: 600 }));
    expect(await desk.act({ action: "pause", destination: "other" })).toEqual(outcome("pause", 1));
    expect(await desk.act({ action: "pause" })).toEqual(outcome("pause", 1));
    expect(await desk.act({ action: "pause" })).toEqual(outcome("pause", 0));
    expect(await desk.within((outbox) => outbox.stats())).toMatchObject({ paused: true });
    expect(await desk.act({ action: "resume" })).toEqual(outcome("resume", 2));
    expect(await desk.within((outbox) => outbox.stats())).toMatchObject({ paused: false });
  });

  it("flushes, retries and cancels", async () => {
    const desk = deskFor(namespace);
    stageFor(desk.stub.id).rest = () => Promise.reject(new Error("down"));
    await desk.within((outbox) => outbox.send(1));
    await desk.until(async (outbox) => (await outbox.stats()).breaker === "open");
    stageFor(desk.stub.id).rest = () => {};
    await desk.act({ action: "flush", destination: "default" });
    await desk.until(async (outbox) => (await outbox.stats()).pending === 0);
    const ids = await desk.within(async (outbox) => {
      const late = [2, 3, 4].map((n) => outbox.send(n, { delaySeconds: 600 }));
      return (await Promise.all(late)).map(({ id }) => id);
    });
    const [second = "", third = "", fourth = ""] = ids;
    expect(await desk.act({ action: "cancel", destination: "default", ids: [third, "none"] })).toEqual(outcome("cancel", 1, 1));
    expect(await desk.act({ action: "retry", destination: "default", ids: [second, third] })).toEqual(outcome("retry", 1, 1));
    await desk.until(async (outbox) => (await outbox.list({ state: "delayed" })).length === 1);
    await desk.until(async (outbox) => (await outbox.stats()).pending === 0);
    expect(
      stageFor(desk.stub.id)
        .calls.flat()
        .map(({ msg }) => msg)
        .at(-1),
    ).toBe(2);
    expect((await desk.get("message", { destination: "default", message: fourth })).body).toMatchObject({
      id: fourth,
      payload: { text: "4" },
    });
    expect(await desk.get("message", { destination: "default", message: second })).toMatchObject({
      status: 404,
      body: { error: { code: "gone" } },
    });
  });

  it("redrives one, some and all, discards, and says what is no dead letter any more", async () => {
    const desk = deskFor(namespace);
    stageFor(desk.stub.id).rest = (messages, delivery) => {
      for (const { id } of messages) delivery.reject(id, "not wanted");
    };
    const ids = await desk.within(async (outbox) => (await Promise.all([1, 2, 3, 4, 5].map((n) => outbox.send(n)))).map(({ id }) => id));
    await desk.until(async (outbox) => (await outbox.stats()).dead === 5);
    expect((await desk.get("messages", { state: "dead", destination: "default", limit: "2" })).body).toMatchObject({
      more: true,
      messages: [{ reason: "rejected", error: "not wanted", attempts: 1 }, { id: ids[1] }],
    });
    const next = await desk.get("messages", { state: "dead", destination: "default", after: ids[1] as string });
    expect(next.body.messages).toHaveLength(3);
    stageFor(desk.stub.id).rest = () => {};
    const dead = { destination: "default" };
    expect(await desk.act({ action: "redrive", ...dead, ids: [ids[0]] })).toEqual(outcome("redrive", 1));
    // Two people at once: the second finds one of them gone.
    expect(await desk.act({ action: "redrive", ...dead, ids: [ids[0], ids[1]] })).toEqual(outcome("redrive", 1, 1));
    expect(await desk.act({ action: "discard", ...dead, ids: [ids[1], ids[2]] })).toEqual(outcome("discard", 1, 1));
    expect(await desk.act({ action: "redrive" })).toEqual(outcome("redrive", 2));
    expect(await desk.act({ action: "redrive", ...dead })).toEqual(outcome("redrive", 0));
    await desk.until(async (outbox) => (await outbox.stats()).pending === 0);
    expect(
      stageFor(desk.stub.id)
        .calls.flat()
        .slice(5)
        .map(({ msg }) => msg),
    ).toEqual([1, 2, 4, 5]);
  });

  it("rewinds, and drops a destination that the class has lost", async () => {
    const desk = deskFor(namespace);
    await desk.within((outbox) => Promise.all([1, 2, 3].map((n) => outbox.send({ type: "other", n }))));
    await desk.until(async (outbox) => (await outbox.stats()).pending === 0);
    expect(await desk.act({ action: "rewind", destination: "other", to: 2 })).toEqual(outcome("rewind", 2));
    expect(await desk.act({ action: "rewind", destination: "other", to: 99 })).toMatchObject({
      status: 400,
      body: { error: { code: "invalid" } },
    });
    await desk.until(async (outbox) => (await outbox.stats()).pending === 0);
    expect(await desk.act({ action: "drop", destination: "other", deadLetters: true })).toMatchObject({ status: 500 });
    await desk.within((outbox) => outbox.send({ type: "other", n: 4 }, { delaySeconds: 600 }));
    stageFor(desk.stub.id).isShrunk = true;
    await end(desk);
    const next = deskOf(namespace, desk.stub);
    expect((await next.get("object")).body.destinations).toMatchObject([{ name: "default" }, { name: "other", missing: true }]);
    expect(await next.act({ action: "drop", destination: "other", deadLetters: false })).toEqual(outcome("drop", 1));
    const gone = await next.act({ action: "drop", destination: "other", deadLetters: false });
    expect(gone).toMatchObject({ status: 409, body: { error: { code: "gone", message: expect.stringContaining('"other"') } } });
  });

  it("refuses each action to everyone who has no right to it, and does nothing", async () => {
    const all = deskFor(namespace);
    stageFor(all.stub.id).rest = () => Promise.reject(new Error("down"));
    await all.within((outbox) => outbox.send(1));
    await all.until(async (outbox) => (await outbox.stats()).breaker === "open");
    const before = await all.within(async (outbox) => ({ ...(await outbox.stats()), oldestAgeSeconds: 0, destinations: 0 }));
    for (const command of COMMANDS) {
      const others = INSPECTOR_ACTIONS.filter((action) => action !== command.action);
      for (const rights of ["read", [], others] as const) {
        const answer = await deskOf(namespace, all.stub, rights).act(command);
        expect(answer).toMatchObject({ status: 403, body: { error: { code: "forbidden" } } });
      }
      for (const [headers, status] of [
        [{}, 401],
        [{ Authorization: "Bearer x" }, 403],
      ] as const) {
        expect((await deskOf(namespace, all.stub, null).act(command, headers as never)).status).toBe(status);
      }
    }
    expect(await all.within(async (outbox) => ({ ...(await outbox.stats()), oldestAgeSeconds: 0, destinations: 0 }))).toMatchObject({
      paused: before.paused,
      pending: before.pending,
      dead: before.dead,
    });
    expect(COMMANDS.map(({ action }) => action).sort()).toEqual([...INSPECTOR_ACTIONS].sort());
    expect(await deskOf(namespace, all.stub, ["pause"]).act({ action: "pause" })).toEqual(outcome("pause", 2));
  });

  it("says what is missing where a class has no outbox", async () => {
    const desk = deskFor("NO_OUTBOX");
    expect(await desk.get("object")).toMatchObject({ status: 501, body: { error: { code: "no_outbox" } } });
  });
});
