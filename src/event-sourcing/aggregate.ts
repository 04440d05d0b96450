/** Aggregates: an object whose state is what the events in its log make of it, and whose commands add events to that log. */

import { expected, OutboxError } from "../api/errors.js";
import { typeOf } from "../api/events.js";
import { known } from "../api/known.js";
import { within } from "../api/within.js";
import type { OutboxTransaction } from "../manager.js";
import type { Aggregate, AggregateOptions, AggregateState, Decider, EventLog, HandledCommand } from "./decider.js";

/** A state at rest. */
interface Snapshot<State> extends Omit<AggregateState<State>, "exists"> {
  readonly snapshotVersion: number;
}

/** A state that moves on with each event that is read. */
interface Fold<State> {
  state: State;
  version: number;
  position: number;
  /** The `sequence` of the last message in the log. */
  sequence: number;
  /** The position of the snapshot from which it began. */
  readonly snapshotAt: number;
}

const OPTIONS = ["types", "snapshotEvery", "snapshotKey", "snapshotVersion", "maxAttempts", "messageOptions"];
const MESSAGE_OPTIONS = [
  "key",
  "delaySeconds",
  "deliverAt",
  "expiresInSeconds",
  "headers",
  "allowConcurrency",
  "allowUnconfirmed",
  "noCache",
];
const PAGE = 1000;

/**
 * Makes an object an aggregate. Its log must be kept: `retain: "all"`.
 *
 * @throws TypeError when an argument is wrong
 *
 * @example
 * class AccountBase extends DurableObject<Env> {
 *   destinations = {};
 *   readonly #account = aggregate(this.env.OUTBOX_MANAGER, account);
 *   deposit = (cents: number) => this.#account.handle({ type: "deposit", cents });
 * }
 * export class Account extends withTransactionalOutbox(AccountBase, { retain: "all" }) {}
 */
export function aggregate<State, Command, Event>(
  outbox: EventLog<NoInfer<Event>>,
  decider: Decider<State, Command, Event>,
  options: AggregateOptions<Event> = {},
): Aggregate<State, Command, Event> {
  checkLog(outbox);
  const { types, snapshotKey = "snapshot", messageOptions } = known("options", options, OPTIONS);
  for (const name of ["decide", "evolve", "initialState"] as const)
    if (typeof decider?.[name] !== "function") throw expected(`decider.${name}`, "a function", decider?.[name]);
  if (types !== undefined && !(Array.isArray(types) && types.length > 0)) throw expected("options.types", "a list of strings", types);
  if (messageOptions !== undefined && typeof messageOptions !== "function")
    throw expected("options.messageOptions", "a function", messageOptions);
  if (typeof snapshotKey !== "string") throw expected("options.snapshotKey", "a string", snapshotKey);
  const every = within("options.snapshotEvery", options.snapshotEvery, [100, 1, Number.POSITIVE_INFINITY, 1]);
  const snapshotVersion = within("options.snapshotVersion", options.snapshotVersion, [1, 0, Number.MAX_SAFE_INTEGER, 1]);
  const maxAttempts = within("options.maxAttempts", options.maxAttempts, [5, 1, 100, 1]);

  /** Takes into account what has been put since, as the log has it: what a schema, say, has made of an event. */
  async function catchUp(fold: Fold<State>, events?: Event[]): Promise<void> {
    for (let isCurrent = false; !isCurrent; ) {
      const from = fold.position + 1;
      const page = await outbox.read({ from, limit: PAGE, ...(types && { types }) });
      if (page.earliest > from) throw trimmed(from, page.earliest);
      for (const { msg } of page.messages as readonly { msg: Event }[]) {
        fold.state = notLater("evolve", decider.evolve(fold.state, msg));
        fold.version++;
        events?.push(msg);
      }
      fold.position = page.next - 1;
      fold.sequence = page.sequence;
      isCurrent = page.upToDate;
    }
  }

  async function load(txn: Pick<OutboxTransaction<Event>, "get">): Promise<Fold<State>> {
    const found = await txn.get<Snapshot<State>>(snapshotKey);
    const isUsable = found?.snapshotVersion === snapshotVersion;
    const { state, version, position } = isUsable
      ? found
      : { state: notLater("initialState", decider.initialState()), version: 0, position: 0 };
    const fold = { state, version, position, sequence: 0, snapshotAt: position };
    await catchUp(fold);
    return fold;
  }

  /** The events of one command. @throws what `decide` throws. */
  function decide(command: Command, state: State): readonly Event[] {
    const decided = notLater("decide", decider.decide(command, state));
    const events = (Array.isArray(decided) ? decided : [decided]) as readonly Event[];
    const other = types && events.find((event) => !types.includes(typeOf(event) ?? ""));
    if (other !== undefined) throw expected("decider.decide", `a function that returns events of options.types (${types})`, typeOf(other));
    return events;
  }

  async function handle(txn: OutboxTransaction<Event>, commands: readonly Command[]): Promise<HandledCommand<State, Event>> {
    const fold = await load(txn);
    const events: Event[] = [];
    for (const command of commands) {
      let expectedSequence = fold.sequence;
      for (const event of decide(command, fold.state)) {
        const given = known("messageOptions()", messageOptions?.(event) ?? {}, MESSAGE_OPTIONS);
        expectedSequence = (await txn.send(event, { ...given, expectedSequence })).sequence;
      }
      if (expectedSequence !== fold.sequence) await catchUp(fold, events);
    }
    if (fold.position - fold.snapshotAt >= every) await store(txn, fold);
    return { ...stateOf(fold), events };
  }

  async function store(
    txn: OutboxTransaction<Event>,
    { state, version, position }: Omit<Snapshot<State>, "snapshotVersion">,
  ): Promise<void> {
    await txn.put<Snapshot<State>>(snapshotKey, { state, version, position, snapshotVersion });
  }

  return {
    load: async (txn) => stateOf(await (txn ? load(txn) : outbox.transaction(load))),

    async handle(command, given = {}) {
      const { txn } = known("options", given, ["txn"]);
      const commands = (Array.isArray(command) ? command : [command]) as readonly Command[];
      if (txn) return handle(txn, commands);
      return retried(maxAttempts, () => outbox.transaction((own) => handle(own, commands)));
    },

    snapshot: (begin) =>
      outbox.transaction(async (txn) => {
        if (begin) within("begin.version", begin.version ?? -1, [0, 0, Number.MAX_SAFE_INTEGER, 1]);
        const current = begin ? { ...begin, position: (await endOf(outbox)).position } : await load(txn);
        await store(txn, current);
        return stateOf(current);
      }),
  };
}

/** @throws TypeError where there is no manager: the class is not wrapped, say. */
export function checkLog(outbox: EventLog<never> | undefined): void {
  if (typeof outbox?.read !== "function" || typeof outbox.transaction !== "function") throw expected("outbox", "an OutboxManager", outbox);
}

/** The last message in the log. */
export async function endOf(outbox: Pick<EventLog<never>, "read">): Promise<{ position: number; sequence: number }> {
  const { messages, next, sequence } = await outbox.read({ direction: "backward", limit: 1 });
  return { position: messages[0]?.position ?? next, sequence };
}

/** Of a promise nothing could be known when it is used. */
function notLater<T>(name: string, value: T): T {
  if (value instanceof Promise) throw expected(`decider.${name}`, "a function that is not async", value);
  return value;
}

function stateOf<State>({ state, version, position }: Omit<AggregateState<State>, "exists">): AggregateState<State> {
  return { state, exists: version > 0, version, position };
}

/** Does what reads before it writes. Where others have written in between it is done again, on what is there now. */
export async function retried<T>(maxAttempts: number, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if ((error as { code?: unknown } | null)?.code !== "sequence_conflict" || attempt >= maxAttempts) throw error;
    }
  }
}

export function trimmed(from: number, earliest: number): OutboxError {
  const text = `The log begins at ${earliest}, and what was put from ${from} on is needed: keep it (retain: "all").`;
  return new OutboxError("history_trimmed", text);
}
