/** The invariants: what holds of every story of an outbox, whatever was put, whatever the destination did, wherever it crashed. */

/** A message that was put. `label` is what the test calls it: labels count in put order. */
export interface Promised {
  readonly label: number;
  /** Whether the state that was put with it became durable. `null` where nobody can know. */
  committed: boolean | null;
  readonly key?: string | undefined;
  /** It had a time of its own, or expires. */
  readonly timed?: boolean;
  /** When it expires, in milliseconds since the Unix epoch. */
  readonly expires?: number;
  /** It was cancelled or discarded, and the call said so. */
  withdrawn?: boolean;
}

/** A message as one call of `sendMessages` sent it on. */
export interface Handed {
  readonly label: number;
  readonly attempts: number;
  /** The destination has taken it. */
  readonly accepted: boolean;
}

/** What happened, in order. */
export type Happening =
  | {
      readonly type: "send";
      readonly messages: readonly Handed[];
      /** The dead letters that were durable then. */
      readonly dead: readonly number[];
      /** What the clock showed. */
      readonly at: number;
      /** The destination never answered. */
      readonly hangs: boolean;
    }
  /** `told`: the platform will repeat the call that was under way, and says so. */
  | { readonly type: "crash"; readonly told: boolean }
  /** The outbox has said that a call with these failed: one that took too long, say. */
  | { readonly type: "failed"; readonly labels: readonly number[] }
  /** The platform has lost the alarm, and the repetition that it may have stood for. */
  | { readonly type: "lost" }
  /** Somebody has begun to put dead letters back. */
  | { readonly type: "redrive"; readonly labels: readonly number[] };

export interface Story {
  readonly promised: ReadonlyMap<number, Promised>;
  readonly happenings: readonly Happening[];
  /** The dead letters at the end, when nothing is left to happen. */
  readonly dead: readonly number[];
  readonly batchSize: number;
}

/** What a story breaks: a text for each, and none when all is well. */
export function broken(story: Story): string[] {
  return [...ends(story), ...sights(story), ...order(story), ...duplicates(story), ...attempts(story)];
}

type Send = Extract<Happening, { type: "send" }>;

function sendsOf({ happenings }: Story): Send[] {
  return happenings.filter((happening) => happening.type === "send");
}

/** Committed means delivered at least once, or a dead letter. */
function ends(story: Story): string[] {
  const accepted = new Set(sendsOf(story).flatMap(({ messages }) => messages.filter((m) => m.accepted).map((m) => m.label)));
  const lost = [...story.promised.values()].filter(
    ({ label, committed, withdrawn }) => committed && !withdrawn && !accepted.has(label) && !story.dead.includes(label),
  );
  const both = [...story.promised.values()].filter(({ label, withdrawn }) => withdrawn && story.dead.includes(label));
  return [
    ...lost.map(({ label }) => `${label} was committed, and is neither delivered nor a dead letter`),
    ...both.map(({ label }) => `${label} was withdrawn, and stands among the dead letters`),
  ];
}

/** Not committed means never seen. */
function sights(story: Story): string[] {
  const seen = new Set([...sendsOf(story).flatMap(({ messages }) => messages.map(({ label }) => label)), ...story.dead]);
  return [...seen].flatMap((label) => {
    const promise = story.promised.get(label);
    if (!promise) return [`${label} was never put, and was seen`];
    return promise.committed === false ? [`${label} was not committed, and was seen`] : [];
  });
}

/** After so many crashes the outbox may blame a message for them, set it aside and let others go first: at the start it is tried alone. */
const DEATHS = 1;

/**
 * Whoever waits is not overtaken by a later one with the same key; and without keys and times, messages are seen first in put order.
 * A dead letter does not wait.
 */
function order(story: Story): string[] {
  const wrong: string[] = [];
  const through = new Set<number>();
  const seen = new Set<number>();
  const everDead = new Set(story.dead);
  const keyed = Map.groupBy(story.promised.values(), ({ key }) => key);
  const redriven = new Set<number>();
  let crashes = 0;
  /** The latest time of a call: a clock that jumps back does not bring to life again what has expired, because an alarm's own time counts. */
  let latest = 0;
  // While the destination refuses, other messages are tried in place of the head.
  let well = true;
  for (const happening of story.happenings) {
    if (happening.type === "crash") crashes++;
    if (happening.type === "redrive") for (const label of happening.labels) redriven.add(label);
    if (happening.type !== "send") continue;
    const { messages, dead, at } = happening;
    latest = Math.max(latest, at);
    for (const label of dead) everDead.add(label);
    for (const { label, accepted } of messages) {
      const promise = story.promised.get(label);
      for (const before of keyed.get(promise?.key) ?? []) {
        if (before.label >= label) break;
        if (!before.committed || before.withdrawn || dead.includes(before.label)) continue;
        // It is about to become a dead letter, in the commit that follows.
        if (before.expires !== undefined && before.expires <= latest && !redriven.has(before.label)) continue;
        if (promise?.key !== undefined) {
          // In one call, the earlier one stands before it: that is checked as the call is gone through.
          if (!through.has(before.label)) wrong.push(`${label} was sent before ${before.label}, which has the same key and waits`);
        } else if (well && crashes < DEATHS && !seen.has(before.label) && !before.timed && !promise?.timed && !everDead.has(before.label)) {
          wrong.push(`${label} was sent before ${before.label}, which was put earlier`);
        }
      }
      seen.add(label);
      // What follows it in this very call was handed over together with it.
      if (accepted || messages.length > 1) through.add(label);
    }
    if (happening.hangs || messages.every(({ accepted }) => !accepted)) well = false;
    for (const { label, accepted } of messages) if (!accepted && !dead.includes(label)) through.delete(label);
    for (const { label, accepted } of messages) if (accepted) through.add(label);
  }
  return wrong;
}

/** Why a message that was taken may come again. */
function isReason(happening: Happening, label: number): boolean {
  if (happening.type === "failed") return happening.labels.includes(label);
  return happening.type === "crash" || (happening.type === "send" && happening.hangs);
}

/** What the destination has taken is sent again only after a crash or a failure that was told, and no more of it than one batch for each. */
function duplicates(story: Story): string[] {
  const wrong: string[] = [];
  const taken = new Map<number, number>();
  let reasons = 0;
  let count = 0;
  for (const [at, happening] of story.happenings.entries()) {
    if (happening.type === "crash" || happening.type === "failed") reasons++;
    if (happening.type === "redrive") for (const label of happening.labels) taken.delete(label);
    if (happening.type !== "send") continue;
    const labels = happening.messages.map(({ label }) => label);
    if (labels.length === 0) wrong.push("sendMessages was called with nothing");
    if (labels.length > story.batchSize) wrong.push(`${labels.length} messages were sent at once`);
    if (new Set(labels).size < labels.length) wrong.push(`one call had a message twice: ${labels}`);
    for (const { label, accepted } of happening.messages) {
      const before = taken.get(label);
      if (before !== undefined) {
        if (accepted) count++;
        const between = story.happenings.slice(before, at);
        if (!between.some((other) => isReason(other, label))) {
          wrong.push(`${label} was taken, and sent again for no reason`);
        }
      }
      // Once it has been refused, that is why it comes again.
      if (accepted) taken.set(label, at);
      else taken.delete(label);
    }
    if (happening.hangs) reasons++;
  }
  if (count > reasons * story.batchSize) wrong.push(`${count} duplicates after ${reasons} crashes, with batches of ${story.batchSize}`);
  return wrong;
}

/**
 * A message says of itself at least how often it was sent since it was put, or put back, until the object crashes: nothing is written when
 * a call begins, so that from then on the number depends on who tells of the death.
 */
function attempts({ happenings }: Story): string[] {
  const wrong: string[] = [];
  const sent = new Map<number, number>();
  for (const happening of happenings) {
    if (happening.type === "crash") break;
    if (happening.type === "redrive") for (const label of happening.labels) sent.delete(label);
    if (happening.type !== "send") continue;
    for (const { label, attempts } of happening.messages) {
      const times = (sent.get(label) ?? 0) + 1;
      if (attempts < times) wrong.push(`${label} was sent ${times} times, and said ${attempts}`);
      sent.set(label, times);
    }
  }
  return wrong;
}
