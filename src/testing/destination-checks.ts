/** The conformance kit for destinations: checks of what the outbox relies on, which anyone can run against a destination of their own. */

import { expected } from "../api/errors.js";
import { known } from "../api/known.js";
import type { OutboxMessage } from "../api/message.js";
import { check, type DestinationEnd, type DestinationSubject, isEqual, shown, Trial } from "./destination-trial.js";

/** One check. `run` rejects, and says why, when the destination does not pass. */
export interface DestinationCheck {
  readonly name: string;
  readonly run: () => Promise<void>;
}

const NAMES = ["make", "message", "refused", "down", "up", "hang", "patienceSeconds"] as const;
/** As many as a call has by default at most. */
const BATCH = 100;
const KEYS = ["a", "b", "c"];
/** So many messages of each key. */
const ROUNDS = 4;
/** A call that hangs is aborted after this long, in milliseconds. */
const ABORT_MS = 50;

/**
 * Checks of what the outbox relies on, for whichever test function runs them.
 *
 * @throws TypeError when an option is wrong.
 *
 * @example
 * const checks = destinationChecks({ make: () => startSmsGateway(), refused: () => ({ to: "nobody" }), down: (gateway) => gateway.stop() });
 * for (const { name, run } of checks) it(name, run);
 */
export function destinationChecks<E extends DestinationEnd<never>>(subject: DestinationSubject<E>): DestinationCheck[] {
  const { patienceSeconds = 10, ...functions } = known("subject", subject, NAMES);
  for (const [name, given] of Object.entries(functions)) {
    if (given !== undefined && typeof given !== "function") throw expected(`subject.${name}`, "a function", given);
  }
  if (typeof subject.make !== "function") throw expected("subject.make", "a function", subject.make);
  if (!(patienceSeconds >= 0.1 && patienceSeconds <= 600))
    throw expected("subject.patienceSeconds", "a number from 0.1 to 600", patienceSeconds);
  const { refused, down, up, hang } = subject;
  const all: [string, ((trial: Trial<E>) => Promise<void>) | false][] = [
    [`delivers a batch of ${BATCH} messages, each with its id`, deliversAll],
    ["sends a message that comes again with the same id, so that the receiver knows it", sendsAgain],
    ["keeps the messages of each ordering key in order", keepsOrder],
    ["leaves the messages that it is given as they are", leavesMessages],
    ["serves calls that overlap, each for itself", servesOverlapping],
    ["sets a message that is refused aside alone, with a reason", refused ? (trial) => refusesAlone(trial, refused) : false],
    ["throws while the other end is down, and settles nothing", down ? (trial) => throwsWhenDown(trial, down) : false],
    ["delivers what it could not once the other end is up again", down && up ? (trial) => comesBack(trial, down, up) : false],
    ["ends when its signal is aborted, and settles nothing that was not answered", hang ? (trial) => endsWhenAborted(trial, hang) : false],
  ];
  return all.flatMap(([name, body]) =>
    body
      ? {
          name,
          run: async () => {
            const end = await subject.make();
            try {
              await body(new Trial(subject, end, patienceSeconds * 1000));
            } finally {
              await end.close?.();
            }
          },
        }
      : [],
  );
}

async function deliversAll(trial: Trial): Promise<void> {
  const messages = trial.messages(BATCH);
  await trial.deliver(messages);
  await trial.arrived(messages);
}

async function sendsAgain(trial: Trial): Promise<void> {
  const messages = trial.messages(3);
  await trial.deliver(messages);
  // As after a crash that nobody has told the outbox of.
  await trial.deliver(messages.map((message) => ({ ...message, attempts: 2 })));
  await trial.arrived(messages);
}

/** The outbox hands over one message of each key at a time, but to a destination that says `ordering: "batch"`. */
async function keepsOrder(trial: Trial): Promise<void> {
  const rounds = Array.from({ length: ROUNDS }, () => KEYS.map((key) => trial.message({ key })));
  const calls = trial.destination.ordering === "batch" ? [rounds.flat()] : rounds;
  for (const call of calls) await trial.deliver(call);
  const ids = await trial.arrived(rounds.flat());
  for (const key of KEYS) {
    const sent = rounds.flat().filter((message) => message.key === key);
    const places = sent.map(({ id }) => ids.indexOf(id));
    const inOrder = places.every((place, i) => i === 0 || place > (places[i - 1] ?? 0));
    check(inOrder, `The messages of key ${key} arrived in another order: ${sent.map(({ sequence }) => sequence)} at ${places}.`);
  }
}

async function leavesMessages(trial: Trial): Promise<void> {
  const messages = trial.messages(3).map((message) => ({ ...message, key: `key ${message.sequence}`, headers: { "x-checked": "1" } }));
  const given = structuredClone(messages);
  // The very list that the destination gets, too.
  const list = [...given];
  const ignore = (): void => {};
  await trial.destination(list, { signal: new AbortController().signal, ack: ignore, retry: ignore, reject: ignore });
  check(list.length === given.length && list.every((message, i) => message === given[i]), "It changed the list of messages.");
  const changed = given.find((message, i) => !isEqual(message, messages[i]));
  check(!changed, `It changed a message: ${shown(changed)}`);
}

async function servesOverlapping(trial: Trial): Promise<void> {
  const calls = [trial.messages(2), trial.messages(2), trial.messages(2)];
  await Promise.all(calls.map((messages) => trial.deliver(messages)));
  await trial.arrived(calls.flat());
}

async function refusesAlone(trial: Trial, refused: (n: number) => unknown): Promise<void> {
  const messages = trial.messages(5);
  const bad = { ...(messages[2] as OutboxMessage), msg: refused(3) };
  messages[2] = bad;
  const { threw, error, outcomes } = await trial.call(messages);
  check(!threw, `It threw because of one message, which keeps its neighbours from being delivered: ${shown(error)}`);
  const said = outcomes.get(bad.id);
  check(
    said?.outcome === "reject" || said?.outcome === "retry",
    `It neither rejected nor retried the message that is refused: ${shown(said?.outcome)}`,
  );
  check(said?.reason !== undefined && said.reason !== "", "It gave no reason.");
  const others = messages.filter((message) => message !== bad);
  for (const { id } of others) {
    const outcome = outcomes.get(id)?.outcome ?? "ack";
    check(outcome === "ack", `It did not deliver a neighbour of the message that is refused: ${outcome}`);
  }
  // Where the other end is what refuses it, it has been there as well.
  await trial.arrived(others, messages);
}

async function throwsWhenDown<E extends DestinationEnd<never>>(trial: Trial<E>, down: (end: E) => unknown): Promise<void> {
  await down(trial.end);
  const { threw, error, outcomes } = await trial.call(trial.messages(3));
  const [said] = outcomes.values();
  check(!said, `It settled a message (${said?.outcome}) although the destination is down, and no message is to blame.`);
  check(threw, "It returned although the other end is down: the outbox takes all messages for delivered.");
  check(error instanceof Error && error.message !== "", `It threw something that does not say what is wrong: ${shown(error)}`);
}

async function comesBack<E extends DestinationEnd<never>>(
  trial: Trial<E>,
  down: (end: E) => unknown,
  up: (end: E) => unknown,
): Promise<void> {
  const messages = trial.messages(3);
  await down(trial.end);
  await trial.call(messages);
  await up(trial.end);
  await trial.deliverInTime(messages);
  await trial.arrived(messages);
}

async function endsWhenAborted<E extends DestinationEnd<never>>(trial: Trial<E>, hang: (end: E) => unknown): Promise<void> {
  await hang(trial.end);
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error("sendMessages took too long.")), ABORT_MS);
  const { threw, outcomes } = await trial.call(trial.messages(3), controller.signal);
  const delivered = [...outcomes.values()].filter(({ outcome }) => outcome !== "retry");
  check(delivered.length === 0, `It settled a message (${delivered[0]?.outcome}) that the other end has not answered.`);
  check(threw || outcomes.size === 3, "It returned although nothing was answered: the outbox takes what has no outcome for delivered.");
}
