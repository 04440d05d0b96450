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
  /** How much had happened when it was put: what came before says nothing about it. */
  readonly since?: number;
  /** It was cancelled or discarded, and the call said so. */
  withdrawn?: boolean;
}

/** A message as one call of `sendMessages` sent it on. */
export interface Handed {
  readonly label: number;
  readonly attempts: number;
  /** The destination has taken it. */
  readonly accepted: boolean;
  /** It had been set aside before the call: it comes when its own backoff has passed. */
  readonly aside?: boolean;
}

/** One call of `sendMessages`, recorded when it begins. */
export interface Send {
  readonly type: "send";
  readonly messages: readonly Handed[];
  /** The dead letters that the object had when the call began. */
  readonly dead: readonly number[];
  /** What the clock showed. */
  readonly at: number;
  /** The destination never answered. */
  readonly hangs: boolean;
  /** The invocation had no subrequests left, and the call threw. */
  readonly spent?: boolean;
  /** The object died before any of it left: the destination has seen nothing. */
  readonly unseen?: boolean;
}

/** What happened, in order. */
export type Happening =
  | Send
  /**
   * `told`: the platform will repeat the call that was under way, and says so. `inHand`: the messages that were being handed over, or whose
   * removal was not yet durable, each once for each such call; absent where nobody can know, as from outside the process. `alone`: the message that was about to be handed
   * over alone after an earlier death, so that it may be blamed for this one and set aside.
   */
  | { readonly type: "crash"; readonly told: boolean; readonly inHand?: readonly number[]; readonly alone?: number | undefined }
  /** The object has said that an earlier run of it died. */
  | { readonly type: "died" }
  /** The clock is about to be turned back: what it showed. */
  | { readonly type: "clock"; readonly at: number }
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
  /** Later messages with the key of a dead letter wait for it. */
  readonly holds?: boolean;
  /** A crash repeats what was delivered in a time before it, which may be more than a batch (`settleWithinSeconds`). */
  readonly recordsLater?: boolean;
}

/** What a story breaks: a text for each, and none when all is well. */
export function broken(story: Story): string[] {
  return [...ends(story), ...sights(story), ...order(story), ...duplicates(story), ...attempts(story)];
}

/** The calls that the destination has seen. */
function sendsOf({ happenings }: Story): Send[] {
  return happenings.filter((happening) => happening.type === "send").filter(({ unseen }) => !unseen);
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

/**
 * A message that waits is not overtaken by a later one with the same key; and without keys and times, messages are handed over first in put
 * order. A dead letter does not wait.
 */
function order(story: Story): string[] {
  const wrong: string[] = [];
  const through = new Set<number>();
  const seen = new Set<number>();
  const everDead = new Set(story.dead);
  const keyed = Map.groupBy(story.promised.values(), ({ key }) => key);
  const expiring = [...story.promised.values()].filter(({ expires }) => expires !== undefined);
  /** What the clock has shown to be over. A clock that is turned back later does not bring it to life again. */
  const expired = new Set<number>();
  const redriven = new Set<number>();
  let failed = false;
  /** The process was killed from outside: what it handed over last, nobody knows. */
  let blind = false;
  for (const [index, happening] of story.happenings.entries()) {
    if (happening.type === "crash" && !happening.inHand) blind = true;
    // As good as seen.
    if (happening.type === "crash" && happening.alone) seen.add(happening.alone);
    if (happening.type === "redrive") for (const label of happening.labels) redriven.add(label);
    // Also a call that the destination has taken, and that was over too late.
    if (happening.type === "failed") failed = true;
    if (happening.type === "send" || happening.type === "clock") {
      for (const { label, expires = 0, since = 0 } of expiring) if (since <= index && expires <= happening.at) expired.add(label);
    }
    if (happening.type !== "send") continue;
    const { messages, dead } = happening;
    for (const label of dead) everDead.add(label);
    // After a call that has failed, another message is tried, to see whether it is the destination.
    const control = failed && messages.length === 1;
    for (const { label, accepted, aside } of messages) {
      const promise = story.promised.get(label);
      // Another that was tried early, to see whether it is the destination, and of which the destination has said `retry`.
      const early = aside && seen.has(label);
      for (const before of keyed.get(promise?.key) ?? []) {
        if (before.label >= label) break;
        if (!before.committed || before.withdrawn) continue;
        if (dead.includes(before.label)) {
          if (story.holds && promise?.key !== undefined && !happening.unseen)
            wrong.push(`${label} was sent while the dead letter ${before.label} holds its key`);
          continue;
        }
        // Nobody has seen it, and what it knew, such as that the earlier one was cancelled, has died with it.
        if (happening.unseen) continue;
        // It is about to become a dead letter, in the commit that follows.
        if (expired.has(before.label) && !redriven.has(before.label)) continue;
        if (promise?.key !== undefined) {
          // In one call, the earlier one comes before it: that is checked as the call is gone through.
          if (!through.has(before.label)) wrong.push(`${label} was sent before ${before.label}, which has the same key and waits`);
        } else if (
          !blind &&
          !control &&
          !early &&
          !seen.has(before.label) &&
          !before.timed &&
          !promise?.timed &&
          !everDead.has(before.label)
        ) {
          wrong.push(`${label} was sent before ${before.label}, which was put earlier`);
        }
      }
      seen.add(label);
      // What follows it in this very call was handed over together with it.
      if (accepted || messages.length > 1) through.add(label);
    }
    failed = !happening.unseen && (happening.hangs || messages.every(({ accepted }) => !accepted));
    for (const { label, accepted } of messages) if (!accepted && !dead.includes(label)) through.delete(label);
    for (const { label, accepted } of messages) if (accepted) through.add(label);
  }
  return wrong;
}

/**
 * What the destination has taken is sent again only if that call hung or was said to have failed, or if the object crashed while it was in
 * hand; and no more of it than one batch for each.
 */
function duplicates(story: Story): string[] {
  const wrong: string[] = [];
  const taken = new Set<number>();
  const excused = new Set<number>();
  let crashed = false;
  let most = 0;
  let count = 0;
  for (const happening of story.happenings) {
    const { batchSize } = story;
    if (happening.type === "crash") most += story.recordsLater ? Math.max(batchSize, happening.inHand?.length ?? 0) : batchSize;
    if (happening.type === "failed") most += batchSize;
    if (happening.type === "crash") {
      if (happening.inHand) for (const label of happening.inHand) excused.add(label);
      else crashed = true;
    }
    if (happening.type === "failed") for (const label of happening.labels) excused.add(label);
    if (happening.type === "redrive") for (const label of happening.labels) taken.delete(label);
    if (happening.type !== "send") continue;
    const labels = happening.messages.map(({ label }) => label);
    if (labels.length === 0) wrong.push("sendMessages was called with nothing");
    if (labels.length > story.batchSize) wrong.push(`${labels.length} messages were sent at once`);
    if (new Set(labels).size < labels.length) wrong.push(`one call had a message twice: ${labels}`);
    for (const { label, accepted } of happening.messages) {
      if (taken.has(label)) {
        if (accepted) count++;
        if (!crashed && !excused.has(label)) wrong.push(`${label} was taken, and sent again for no reason`);
      }
      excused.delete(label);
      // Once it has been refused, that is why it comes again.
      if (accepted && !happening.hangs) taken.add(label);
      else taken.delete(label);
    }
    if (happening.hangs) most += batchSize;
  }
  if (count > most) wrong.push(`${count} duplicates, where crashes and failures explain ${most}`);
  return wrong;
}

/** So many places at which calls failed an object tells apart: beyond, a message may count calls from before it was put. */
const MOST_STEPS = 16;

/**
 * A message says of itself how often it was handed over since it was put, or put back: exactly, until the first call since then that fails,
 * and the first death since then that the object hears of. From then on never less, but for the crashes that it was in the midst of, because
 * nothing is written when a call begins; and never more than there were calls and such deaths since then.
 */
function attempts({ happenings, promised }: Story): string[] {
  const wrong: string[] = [];
  const sent = new Map<number, number>();
  const hidden = new Map<number, number>();
  /** Calls and deaths before each happening. */
  const before: number[] = [];
  const putBack = new Map<number, number>();
  let calls = 0;
  /** The last call that failed, or death that was told. */
  let inexact = -1;
  /** Where the calls that failed ended, and the deaths. */
  const steps = new Set<number | object>();
  for (const [index, happening] of happenings.entries()) {
    before.push(calls);
    const { type } = happening;
    if (type === "crash" && !happening.inHand) break;
    if (type === "crash") for (const label of happening.inHand ?? []) hidden.set(label, (hidden.get(label) ?? 0) + 1);
    if (type === "redrive") {
      for (const label of happening.labels) {
        sent.delete(label);
        hidden.delete(label);
        putBack.set(label, index);
      }
    }
    if (type === "died") calls++;
    if (type === "died") steps.add(happening);
    if (type === "died" || type === "failed") inexact = index;
    if (type !== "send") continue;
    calls++;
    for (const { label, attempts } of happening.messages) {
      const times = (sent.get(label) ?? 0) + 1;
      // Unknown where the happenings come from outside the object: the kill loop checks them by lives.
      if (!Number.isFinite(attempts)) continue;
      const least = times - (hidden.get(label) ?? 0);
      const since = putBack.get(label) ?? promised.get(label)?.since ?? 0;
      const most = inexact < since ? times : calls - (steps.size > MOST_STEPS ? 0 : (before[since] ?? 0));
      if (attempts < least || attempts > most) {
        wrong.push(`${label} was handed over ${times} times, of at most ${most} calls and deaths that may count, and said ${attempts}`);
      }
      sent.set(label, times);
    }
    // Nothing has failed, so it need not count for what was not taken.
    if (happening.spent)
      for (const { label, accepted } of happening.messages) if (!accepted) hidden.set(label, (hidden.get(label) ?? 0) + 1);
    if (happening.hangs || happening.messages.some(({ accepted }) => !accepted))
      steps.add(Math.max(...happening.messages.map(({ label }) => label)));
    if (happening.hangs || happening.spent || happening.messages.every(({ accepted }) => !accepted)) inexact = index;
  }
  return wrong;
}
