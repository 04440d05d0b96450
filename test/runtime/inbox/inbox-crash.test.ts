/** A crash in `receive`: at every storage call of its transaction and between them, the effect, the mark and what is sent are all there or not at all. */
import { expect, it } from "vitest";
import type { InboxManager, OutboxEnvelope } from "../../../src/inbox/index.ts";
import { size, some } from "../../support/random.ts";
import { drained, eventually, inside, native, onBothBackends, redeclared, type Stub, sent } from "../support/harness.ts";
import { effects, foreign, InboxBox, numbered, rows, within, wrapped } from "../support/inbox.ts";
import { DIED, dyingEverywhere, type Plan, plan } from "../support/steps.ts";
import type { BoxEnv, Form } from "../support/worker.ts";

const CALLS = ["get", "list", "put", "delete", "getAlarm", "setAlarm", "deleteAlarm"] as const;

/** The inbox of the object's life, for an operation that is given its state only. */
const inboxes = new WeakMap<DurableObjectState, InboxManager>();

/** A class whose storage calls are steps of a plan, inside transactions and outside of them. */
function stepping(plan: Plan, ordered: boolean): Form {
  const Wrapped = wrapped(class extends InboxBox {}, "the inbox around the outbox", { ordered });
  return class extends Wrapped {
    constructor(ctx: DurableObjectState, env: BoxEnv) {
      watch(ctx, ctx.storage, plan);
      const transaction = ctx.storage.transaction.bind(ctx.storage);
      const value = (closure: (txn: DurableObjectTransaction) => Promise<unknown>) =>
        transaction((txn) => {
          watch(ctx, txn, plan);
          return closure(txn);
        });
      Object.defineProperty(ctx.storage, "transaction", { value, configurable: true, writable: true });
      super(ctx, env as never);
      inboxes.set(ctx, (this as unknown as InboxBox).inbox);
    }
  };
}

function watch(ctx: DurableObjectState, target: object, plan: Plan): void {
  const step = async (): Promise<void> => {
    if (++plan.seen !== plan.step || plan.reached) return;
    plan.reached = true;
    for (let n = 0; n < plan.microtasks; n++) await null;
    ctx.abort(DIED);
  };
  for (const name of CALLS) {
    const call = (target as Record<string, (...args: unknown[]) => unknown>)[name]?.bind(target);
    const value = (...args: unknown[]): unknown => {
      void step();
      const result = call?.(...args);
      return result instanceof Promise ? result.finally(() => void step()) : result;
    };
    Object.defineProperty(target, name, { value, configurable: true, writable: true });
  }
}

/** What the next life finds of a message. */
async function found(stub: Stub, id: string): Promise<{ effect: number; marked: boolean; sent: number }> {
  const effect = (await effects(stub))[id] ?? 0;
  const marked = [...(await rows(stub)).keys()].some((key) => key.startsWith("s") || key.startsWith("i"));
  const waiting = await inside(stub, async (_, outbox) => (await outbox.list()).length);
  return { effect, marked, sent: waiting };
}

const MESSAGES: [string, OutboxEnvelope][] = [
  ["a number", numbered(1)],
  ["a number beyond a gap", numbered(4)],
  ["an id", foreign("a")],
];

onBothBackends("a crash while a message is received", (backend) => {
  it.each(some(2, MESSAGES))("leaves all of it or nothing: %s", async (_, message) => {
    const planned = plan();
    const cls = stepping(planned, false);
    const outcomes = { nothing: 0, all: 0 };
    let stub: Stub;
    const lives = await dyingEverywhere(
      () => stub,
      planned,
      size(1, 2),
      (__, state) =>
        (inboxes.get(state) as InboxManager).receive(message, async (txn, { id }) => {
          await txn.put(`effect:${id}`, 1);
          await txn.send(`about ${id}`);
        }),
      async () => {
        stub = redeclared(backend.form.get(backend.form.newUniqueId()), cls);
        await inside(stub, (_, outbox) => outbox.pause());
      },
      async (moment) => {
        stub = redeclared(stub, wrapped(class extends InboxBox {}, "the outbox around the inbox"));
        const { effect, marked, sent: count } = await found(stub, message.id);
        const all = effect === 1;
        expect({ moment, effect, marked, sent: count }).toEqual({ moment, effect: all ? 1 : 0, marked: all, sent: all ? 1 : 0 });
        outcomes[all ? "all" : "nothing"]++;
        const again = await within(stub, async (inbox) => (await inbox.receive(message, (txn) => txn.put("late", 1))).status);
        expect({ moment, again }).toEqual({ moment, again: all ? "duplicate" : "processed" });
        await inside(stub, (_, outbox) => outbox.resume());
        await drained(stub);
        expect({ moment, sent: new Set(sent(stub).map(({ msg }) => msg)) }).toEqual({
          moment,
          sent: new Set(all ? [`about ${message.id}`] : []),
        });
      },
    );
    expect(outcomes.nothing).toBeGreaterThan(10);
    expect(outcomes.all).toBeGreaterThan(0);
    expect(outcomes.nothing + outcomes.all).toBe(lives);
  });
});

onBothBackends("a crash while a message is received for which another one waits", (backend) => {
  it("leaves the one that waits to an alarm, and none of the two has its effect twice", async () => {
    const planned = plan();
    const cls = stepping(planned, true);
    const after = wrapped(class extends InboxBox {}, "the inbox around the outbox", { ordered: true });
    const outcomes: Record<string, number> = {};
    let stub: Stub;
    const take = async (txn: DurableObjectTransaction, { id }: OutboxEnvelope) => {
      await txn.put(`effect:${id}`, ((await txn.get<number>(`effect:${id}`)) ?? 0) + 1);
    };
    await dyingEverywhere(
      () => stub,
      planned,
      1,
      (__, state) => (inboxes.get(state) as InboxManager).receive(numbered(1), take),
      async () => {
        stub = redeclared(backend.form.get(backend.form.newUniqueId()), cls);
        await within(stub, (inbox) => inbox.receive(numbered(2), take));
      },
      async (moment) => {
        stub = redeclared(stub, after);
        const { "sender-1": first = 0, "sender-2": second = 0 } = await effects(stub);
        const alarm = await inside(stub, (_, __, state) => native(state).getAlarm());
        outcomes[`${first} ${second}`] = (outcomes[`${first} ${second}`] ?? 0) + 1;
        // With the first alone an alarm stands, within a minute.
        expect({ moment, first, second }).toEqual({ moment, first, second: first && second });
        if (first > second) expect((alarm ?? Number.POSITIVE_INFINITY) - Date.now()).toBeLessThanOrEqual(60_000);
        await within(stub, (inbox) => inbox.receive(numbered(1), take));
        if (first > second) await within(stub, (inbox) => inbox.receive(numbered(2), take));
        await eventually(async () => (await effects(stub))["sender-2"] === 1);
        expect(await effects(stub)).toEqual({ "sender-1": 1, "sender-2": 1 });
        // Nothing waits any more, in whichever way the second came through.
        const left = [...(await rows(stub))];
        expect({ moment, left }).toEqual({ moment, left: [['s"sender"', { high: 2, gaps: [], paged: 0, waiting: 0 }]] });
      },
    );
    expect(Object.keys(outcomes).sort()).toEqual(["0 0", "1 0", "1 1"]);
  });
});
