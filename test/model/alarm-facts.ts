/** What an object's alarm handler does in the alarm lists of the conformance suite, and what performs it. */

import { begin, type Operation, perform } from "./operations.ts";

/** What an object does in the calls of its `alarm`, the first of which comes at once. */
export interface AlarmFact {
  readonly title: string;
  /** Sets the first alarm so many milliseconds after the beginning. */
  readonly firstMs: number;
  readonly calls: readonly {
    readonly does: readonly Operation[];
    /** `abort`: in the turn in which the last operation has ended. `abort at once`: in the turn in which it was called. */
    readonly ends?: "throw" | "abort" | "abort at once";
  }[];
  /** The object dies before its alarm comes, which so starts it. */
  readonly dies?: true;
  /** In its start it sets the alarm to this, in milliseconds from the beginning. */
  readonly moves?: number;
  /** It blocks its concurrency from before its alarm comes until so many milliseconds from the beginning, and does this at the end. */
  readonly holds?: { readonly untilMs: number; readonly does: readonly Operation[] };
  /** How long after the last call, in milliseconds, it is looked at once more. */
  readonly restMs: number;
}

/** Far enough ahead for a busy machine: a time that has passed would be set as the present. */
const SOON = 1000;
const LATER = 4000;

export const ALARM_FACTS: readonly AlarmFact[] = [
  {
    title: "hides the alarm that fires, until another is set",
    firstMs: SOON,
    calls: [{ does: [["get alarm"], ["set alarm", 60_000], ["get alarm"]] }],
    restMs: 100,
  },
  { title: "has no alarm after its handler", firstMs: SOON, calls: [{ does: [] }], restMs: 100 },
  {
    title: "calls a handler that throws again",
    firstMs: SOON,
    calls: [{ does: [["get alarm"]], ends: "throw" }, { does: [["get alarm"]] }],
    restMs: 100,
  },
  { title: "shows an alarm that waits for its retry", firstMs: SOON, calls: [{ does: [], ends: "throw" }], restMs: 500 },
  {
    title: "takes an alarm that was set before the throw for the retry",
    firstMs: SOON,
    calls: [{ does: [["set alarm", LATER]], ends: "throw" }, { does: [["get alarm"]] }],
    restMs: 2500,
  },
  {
    title: "does not retry where the alarm was deleted",
    firstMs: SOON,
    calls: [{ does: [["delete alarm"]], ends: "throw" }],
    restMs: 3000,
  },
  {
    title: "calls again after a death",
    firstMs: SOON,
    calls: [{ does: [["get alarm"]], ends: "abort" }, { does: [["get alarm"]] }],
    restMs: 100,
  },
  {
    title: "calls again after a death that took a new alarm with it",
    firstMs: SOON,
    calls: [{ does: [["set alarm", 60_000]], ends: "abort at once" }, { does: [["get alarm"]] }],
    restMs: 100,
  },
  {
    title: "takes an alarm that was durable before the death for the retry",
    firstMs: SOON,
    calls: [{ does: [["set alarm", LATER], ["sync"]], ends: "abort" }, { does: [["get alarm"]] }],
    restMs: 2500,
  },
  {
    title: "hides the alarm that starts the object, before its handler is called",
    firstMs: LATER,
    dies: true,
    calls: [{ does: [["get alarm"]] }],
    restMs: 100,
  },
  {
    title: "calls for an alarm that starts the object although the start moves it",
    firstMs: LATER,
    dies: true,
    moves: 2 * LATER,
    calls: [{ does: [["get alarm"]] }, { does: [] }],
    restMs: 2500,
  },
  {
    title: "does not call for an alarm that is moved while its call waits",
    firstMs: SOON,
    holds: { untilMs: 2 * SOON, does: [["set alarm", LATER]] },
    calls: [{ does: [["get alarm"]] }],
    restMs: 100,
  },
  {
    title: "does not call for an alarm that is deleted while its call waits",
    firstMs: SOON,
    holds: { untilMs: 2 * SOON, does: [["delete alarm"]] },
    calls: [],
    restMs: 3000,
  },
  {
    title: "retries with a count",
    firstMs: SOON,
    calls: [{ does: [], ends: "throw" }, { does: [], ends: "throw" }, { does: [] }],
    restMs: 100,
  },
];

/** What one call of `alarm` was told and what its operations gave. */
export type AlarmResult = readonly [scheduledMs: number, retryCount: number, isRetry: boolean, results: readonly unknown[]];

/** The start of the object's later lives: what its alarm is then is noted. */
export async function start(
  fact: AlarmFact,
  starts: unknown[],
  { storage }: Pick<DurableObjectState, "storage">,
  base: number,
): Promise<void> {
  if (!fact.dies) return;
  starts.push(await begin(storage, ["get alarm"], base));
  if (starts.length > 1 && fact.moves) await storage.setAlarm(base + fact.moves);
}

/** What the object does while it blocks its concurrency. */
export async function hold(
  { holds }: AlarmFact,
  ctx: Pick<DurableObjectState, "blockConcurrencyWhile" | "storage">,
  base: number,
): Promise<void> {
  if (!holds) return;
  await ctx.blockConcurrencyWhile(async () => {
    await new Promise((resolve) => setTimeout(resolve, base + holds.untilMs - Date.now()));
    await perform(ctx.storage, holds.does, base);
  });
}

/** The object's handler: performs what the fact says of this call, and notes it. */
export async function handle(
  fact: AlarmFact,
  seen: AlarmResult[],
  ctx: Pick<DurableObjectState, "storage" | "abort">,
  info: AlarmInvocationInfo,
  base: number,
): Promise<void> {
  const { does = [], ends } = fact.calls[seen.length] ?? {};
  const results: unknown[] = [];
  seen.push([info.scheduledTime - base, info.retryCount, info.isRetry, results]);
  if (ends === "abort at once") {
    for (const operation of does) void begin(ctx.storage, operation, base);
    ctx.abort("as the fact says");
  }
  results.push(...(await perform(ctx.storage, does, base)));
  if (ends === "abort") ctx.abort("as the fact says");
  if (ends === "throw") throw new Error("as the fact says");
}
