/** The verdict of the kill loop: what the receiver wrote down against what is stored and what was confirmed, held to the invariants. */
import { broken, type Handed, type Happening, type Promised, type Story } from "../support/invariants.ts";
import type { Load } from "./kill-loop-load.ts";
import { BATCH_SIZE, CLASSES, type ClassName, type Committed, type Dead, type Line, type SentMessage } from "./kill-loop-words.ts";

/** What stands in an object at the end. */
export interface Found extends Committed {
  readonly dead: readonly Dead[];
}

export interface Verdict {
  readonly requests: number;
  readonly confirmed: number;
  readonly committed: number;
  /** Messages that the destination has taken, each counted once, and how often one was taken again. */
  readonly delivered: number;
  readonly dead: number;
  readonly duplicates: number;
  /** Calls that ran out of time, or had no answer, as far as the next one told. */
  readonly failures: number;
  readonly lost: number;
  readonly ghosts: number;
  /** What is broken, in words. */
  readonly wrong: readonly string[];
  /** The log of the first of it. */
  readonly evidence: readonly string[];
}

/** Lines of the log are printed up to this many. */
const MOST_EVIDENCE = 60;

type Send = Extract<Line, { type: "send" }>;

export function judge(lines: readonly Line[], found: Record<ClassName, Found>, load: Load): Verdict {
  const verdicts = CLASSES.map((kind) => verdictOf(kind, lines, found[kind], load));
  const sum = (count: (verdict: (typeof verdicts)[number]) => number): number => verdicts.reduce((all, one) => all + count(one), 0);
  return {
    requests: load.requests,
    confirmed: sum(({ confirmed }) => confirmed),
    committed: sum(({ committed }) => committed),
    delivered: sum(({ delivered }) => delivered),
    dead: sum(({ dead }) => dead),
    duplicates: sum(({ duplicates }) => duplicates),
    failures: sum(({ failures }) => failures),
    lost: sum(({ lost }) => lost),
    ghosts: sum(({ ghosts }) => ghosts),
    wrong: [...load.refused.map((text) => `refused: ${text}`), ...verdicts.flatMap(({ wrong }) => wrong)],
    evidence: verdicts.flatMap(({ evidence }) => evidence).slice(0, MOST_EVIDENCE),
  };
}

/** What an object sent while a label was on its way: what the first complaint that names one may come from. */
function evidenceOf(wrong: readonly string[], lines: readonly Line[], kind: ClassName): string[] {
  const label = Number(/\d{7,}/.exec(wrong[0] ?? "")?.[0]);
  const mine = lines.filter((line) => line.type === "crash" || line.kind === kind);
  const has = (line: Line): boolean => line.type === "send" && line.messages.some(([one]) => one === label);
  const first = mine.findIndex(has);
  return first < 0 ? [] : mine.slice(Math.max(0, first - 2), mine.findLastIndex(has) + 3).map((line) => JSON.stringify(line));
}

function verdictOf(kind: ClassName, lines: readonly Line[], found: Found, load: Load): Omit<Verdict, "requests"> {
  const { happenings, sends, failures } = happeningsOf(kind, lines, found);
  const dead = found.dead.map(({ label }) => label);
  const taken = happenings.flatMap((happening) => (happening.type === "send" ? happening.messages.filter(({ accepted }) => accepted) : []));
  const delivered = new Set(taken.map(({ label }) => label));
  const seen = new Set([...sends.flatMap(({ messages }) => messages.map(([label]) => label)), ...dead]);
  const { promised, again } = promisedOf(found, seen);
  const story: Story = { promised, happenings, dead, batchSize: BATCH_SIZE };
  const ended = (label: number): boolean => delivered.has(label) || dead.includes(label);
  const confirmed = load.confirmed[kind];
  const forgotten = [...confirmed].filter((label) => !promised.has(label));
  const kept = [...load.undone[kind]].filter((label) => promised.has(label));
  const wrong = [
    ...broken(story),
    ...found.torn,
    ...again.filter((labels) => !labels.some(ended)).map((labels) => `none of ${labels} arrived, which have one id`),
    ...forgotten.map((label) => `${label} was confirmed, and is not stored`),
    ...kept.map((label) => `${label} was undone, and is stored`),
    ...numbers(sends, found.dead),
    ...attempts(sends),
    ...(found.waiting > 0 ? [`${found.waiting} messages wait although all is quiet`] : []),
  ];
  return {
    evidence: evidenceOf(wrong, lines, kind),
    confirmed: confirmed.size,
    committed: promised.size,
    delivered: delivered.size,
    dead: dead.length,
    duplicates: taken.length - delivered.size,
    failures,
    lost: [...promised.values()].filter(({ label, committed }) => committed && !ended(label)).length,
    ghosts: [...seen].filter((label) => !promised.has(label)).length,
    wrong: wrong.map((text) => `${kind}: ${text}`),
  };
}

/**
 * What is stored is promised. Of puts with one id only the first must have stored its message: a later one may have found it there
 * still, so that it was not to store another.
 */
function promisedOf({ states }: Found, seen: ReadonlySet<number>): { promised: Map<number, Promised>; again: number[][] } {
  const promised = new Map<number, Promised>();
  const named = new Map<string, number[]>();
  for (const [label, { key, delaySeconds, id }] of states) {
    const earlier = id === undefined ? undefined : named.get(id);
    const committed = earlier && !seen.has(label) ? null : true;
    promised.set(label, { label, committed, key, timed: delaySeconds !== undefined });
    if (id !== undefined) named.set(id, [...(earlier ?? []), label]);
  }
  return { promised, again: [...named.values()].filter((labels) => labels.length > 1) };
}

/** One object's part of the log, in the words of the invariants. */
function happeningsOf(kind: ClassName, lines: readonly Line[], found: Found): { happenings: Happening[]; sends: Send[]; failures: number } {
  const mine = lines.filter((line) => line.type === "crash" || line.kind === kind);
  const sends = mine.filter((line) => line.type === "send");
  const failed = new Set(sends.flatMap(({ life, failed }) => failed.map((call) => `${life} ${call}`)));
  /** A dead letter has been one since it was sent for the last time. */
  const buried = new Map(found.dead.map(({ label }) => [label, -1]));
  for (const [n, line] of mine.entries()) {
    if (line.type === "send") for (const [label] of line.messages) if (buried.has(label)) buried.set(label, n);
  }
  const happenings = mine.map((line, n): Happening => {
    if (line.type === "crash") return { type: "crash", told: false };
    const messages = line.messages.map((message, i) => handedOf(line, message, i));
    const dead = [...buried].filter(([, last]) => last < n).map(([label]) => label);
    // A call that has failed without the destination's knowing is as one that it never answered.
    const hangs = line.order.end === "hang" || failed.has(`${line.life} ${line.call}`);
    return { type: "send", messages, dead, at: line.at, hangs };
  });
  return { happenings, sends, failures: failed.size };
}

/** Whether the destination has taken it: what it was told to say no more of, if the call did not fail. */
function handedOf({ order }: Send, [label]: SentMessage, i: number): Handed {
  const refused = order.retried.includes(i) || order.rejected.includes(i);
  // After a SIGKILL the platform does not tell that a call is a repetition, so nobody counts the attempts that died: see `attempts`.
  return { label, attempts: Number.POSITIVE_INFINITY, accepted: order.acked.includes(i) || (order.end !== "throw" && !refused) };
}

/** A message says of itself at least how often it was sent in this life. What it was sent before, nobody may have told. */
function attempts(sends: readonly Send[]): string[] {
  const wrong: string[] = [];
  const sent = new Map<number, { life: number; times: number }>();
  for (const { life, messages } of sends) {
    for (const [label, , , said] of messages) {
      const before = sent.get(label);
      const times = before?.life === life ? before.times + 1 : 1;
      if (said < times) wrong.push(`${label} was sent ${times} times in this life, and said ${said}`);
      sent.set(label, { life, times });
    }
  }
  return wrong;
}

/** One number is one message, one message is one number, both in put order and without a gap. */
function numbers(sends: readonly Send[], dead: readonly Dead[]): string[] {
  const wrong: string[] = [];
  const bySequence = new Map<number, number>();
  const byLabel = new Map<number, string>();
  const sources = new Set<string>();
  const note = (label: number, sequence: number, source: string, id?: string): void => {
    sources.add(source);
    const other = bySequence.get(sequence);
    if (other !== undefined && other !== label) wrong.push(`${sequence} is the number of ${other} and of ${label}`);
    const name = `${sequence} ${id ?? byLabel.get(label)?.split(" ")[1] ?? ""}`;
    const known = byLabel.get(label);
    if (known !== undefined && known !== name) wrong.push(`${label} came as ${known} and as ${name}`);
    bySequence.set(sequence, label);
    byLabel.set(label, name);
  };
  for (const { messages } of sends) for (const [label, id, sequence, , source] of messages) note(label, sequence, source, id);
  for (const { label, sequence, source } of dead) note(label, sequence, source);
  const inOrder = [...bySequence].sort(([a], [b]) => a - b);
  for (const [i, [sequence, label]] of inOrder.entries()) {
    const before = inOrder[i - 1];
    if (sequence !== (before?.[0] ?? 0) + 1) wrong.push(`number ${sequence} follows ${before?.[0] ?? 0}`);
    if (before && before[1] > label) wrong.push(`${label} has number ${sequence}, and was put before ${before[1]}`);
  }
  if (sources.size > 1) wrong.push(`${sources.size} sources: ${[...sources].join(", ")}`);
  return wrong;
}
