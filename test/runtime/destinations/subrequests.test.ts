/** A backlog of webhooks in a runtime that lets each invocation make so many subrequests: it drains, alarm by alarm, and nothing counts as a failure. */
import { afterEach, expect, it, vi } from "vitest";
import { toWebhook } from "../../../src/destinations/index.ts";
import { type OutboxEvent, type OutboxManager, withTransactionalOutbox } from "../../../src/index.ts";
import { all, messages, record } from "../../support/destinations/recorder.ts";
import { size } from "../../support/random.ts";
import { declared, eventually, inside, onEitherBackend } from "../support/harness.ts";
import type { Form } from "../support/worker.ts";

const SECRET = `whsec_${"A".repeat(32)}`;
/** The platform's words. */
const TOO_MANY =
  "Too many subrequests by single Worker invocation. To configure this limit, refer to https://developers.cloudflare.com/workers/wrangler/configuration/#limits";

afterEach(() => {
  vi.restoreAllMocks();
});

it("a webhook that has answered leaves no timer: an isolate may have 10,000", async () => {
  vi.spyOn(globalThis, "fetch").mockImplementation(async () => new Response(null));
  const set = vi.spyOn(globalThis, "setTimeout");
  const cleared = vi.spyOn(globalThis, "clearTimeout");
  const send = toWebhook("https://hooks.test/in", { secret: SECRET, timeoutSeconds: 77 });
  expect((await record(send, messages(20))).outcomes).toEqual(all("ack", 1, 20));
  const mine = set.mock.results.filter((_, call) => set.mock.calls[call]?.[1] === 77_000).map(({ value }) => value as unknown);
  expect(mine).toHaveLength(20);
  expect(cleared.mock.calls.map(([timer]) => timer as unknown)).toEqual(expect.arrayContaining(mine));
});

onEitherBackend("a backlog of webhooks", (backend) => {
  /** In the proof on one of the two backends, because it takes long. */
  const most = backend.name === "sqlite" ? 10_000 : 1200;
  it.each([
    ["50, to one URL", 50, size(150, most), () => "https://hooks.test/in"],
    ["1,000, to one URL", 1000, size(1100, most), () => "https://hooks.test/in"],
    ["50, to many origins", 50, size(150, 500), (n: number) => `https://hooks-${n % 9}.test/in`],
  ] as const)("drains without the breaker opening once, with subrequests limited to %s", async (title, limit, count, urlOf) => {
    const arrived = new Map<string, number>();
    const events: OutboxEvent[] = [];
    let used = 0;
    let invocations = 0;
    vi.spyOn(globalThis, "fetch").mockImplementation(async (_, init) => {
      if (++used > limit) throw new Error(TOO_MANY);
      const id = new Headers(init?.headers).get("webhook-id") ?? "";
      arrived.set(id, (arrived.get(id) ?? 0) + 1);
      return new Response(null);
    });
    const url = title.endsWith("origins") ? ({ msg }: { msg: unknown }) => urlOf(msg as number) : urlOf(0);
    const Hooks = withTransactionalOutbox(
      class {
        readonly outbox: OutboxManager;
        readonly sendMessages = toWebhook(url as string, { secret: SECRET });
        constructor(_: DurableObjectState, env: { OUTBOX_MANAGER: OutboxManager }) {
          this.outbox = env.OUTBOX_MANAGER;
        }
      },
      { onEvent: (event) => void events.push(event) },
    );
    // Each call of the alarm is an invocation. The platform calls what it finds when the constructor has returned.
    const Counting = class extends (Hooks as unknown as Form) {
      constructor(ctx: DurableObjectState, env: never) {
        super(ctx, env);
        const { alarm } = this as unknown as { alarm(...info: unknown[]): unknown };
        const value = (...info: unknown[]): unknown => {
          used = 0;
          invocations++;
          return alarm(...info);
        };
        Object.defineProperty(this, "alarm", { value, configurable: true });
      }
    };
    const stub = declared(backend, Counting);
    await inside(stub, (_, outbox, state) =>
      state.blockConcurrencyWhile(() => Promise.all(Array.from({ length: count }, (_, n) => outbox.send(n)))),
    );
    await eventually(() => arrived.size === count);
    await eventually(() => inside(stub, async (_, outbox) => (await outbox.stats()).pending === 0));
    expect([...arrived.values()].every((times) => times === 1)).toBe(true);
    const told = (type: OutboxEvent["type"]): number => events.filter((event) => event.type === type).length;
    expect([told("failed"), told("breaker_opened"), told("retried"), told("dead")]).toEqual([0, 0, 0, 0]);
    expect(invocations).toBeGreaterThanOrEqual(Math.floor(count / limit));
    expect(invocations).toBeLessThanOrEqual(Math.ceil(count / limit) + 3);
  });
});
