/** Shards: several queues behind one destination. Each ordering key has its own; messages without one go where there is room. */

import { told } from "../api/errors.js";
import type { OutboxDelivery } from "../api/message.js";
import { isOutOfSubrequests } from "../api/verdict.js";
import { CLOCK, type Clock } from "./clock.js";
import { DAY_SECONDS, limiter, secondsUntil } from "./destination.js";
import { secondsOf } from "./target.js";

/** A failing shard is left alone for 2 s, doubling up to this, in seconds; up to a fifth is added at random. */
const MOST_BACKOFF_SECONDS = 60;
/** A shard that has not answered after this, in milliseconds, has failed: it must not hold up the others. What it has got may arrive all the same. */
const ANSWER_MS = 10_000;
/** So many shards are sent to at a time: the platform lets six requests wait for their answers. */
const MOST_AT_ONCE = 6;

/** A message that goes to one of the shards. */
export interface Sharded {
  readonly id: string;
  readonly key: string | undefined;
}

/** What a shard has not taken, because it failed. */
export interface Unsent<T> {
  readonly rest: readonly T[];
  readonly error: unknown;
}

export interface Shards<T extends Sharded> {
  /**
   * Sends each to its shard, in order, and lets those wait whose shard fails, without counting an attempt. Rejects with a shard's error when none is known
   * to work.
   *
   * @param sendTo sends to one shard until that fails, and gives outcomes to what was sent, by a delivery of its own
   */
  send(all: readonly T[], delivery: OutboxDelivery, sendTo: SendTo<T>): Promise<void>;
}

type SendTo<T> = (shard: number, part: readonly T[], delivery: OutboxDelivery) => Promise<Unsent<T> | null>;

interface Shard {
  failures: number;
  /** It has taken something, and has not failed since. */
  works: boolean;
  /** No request before this, in milliseconds since the Unix epoch, while others work. */
  until: number;
  error: unknown;
}

export function shardsOf<T extends Sharded>(count: number, { now, random, after }: Clock = CLOCK): Shards<T> {
  const shards = Array.from({ length: count }, (): Shard => ({ failures: 0, works: false, until: 0, error: undefined }));
  /** The shard that the last messages without a key went to. */
  let last = -1;

  const shardAt = (index: number): Shard => shards[index] as Shard;
  /** How long a shard is to be left alone, in seconds. */
  const waitFor = ({ until }: Shard): number => secondsUntil(until, now());

  function fail(shard: Shard, error: unknown): void {
    shard.failures++;
    shard.works = false;
    shard.error = error;
    const seconds = Math.min(2 ** shard.failures, MOST_BACKOFF_SECONDS) * (1 + random() / 5);
    shard.until = now() + Math.max(seconds, Math.min(secondsOf(error), DAY_SECONDS)) * 1000;
  }

  /** Sends to one shard, as long as it has time to answer. */
  async function inTime(part: readonly T[], delivery: OutboxDelivery, send: (own: OutboxDelivery) => ReturnType<SendTo<T>>) {
    const late = new AbortController();
    const sent = new Set<string>();
    const ack: OutboxDelivery["ack"] = (id, reason) => {
      sent.add(id);
      delivery.ack(id, reason);
    };
    let cancel = (): void => {};
    const timeout = new Promise<Unsent<T>>((resolve) => {
      cancel = after(ANSWER_MS, () => {
        const error = new Error(told(`The queue did not answer within ${ANSWER_MS / 1000} s.`));
        late.abort(error);
        resolve({ rest: part.filter(({ id }) => !sent.has(id)), error });
      });
    });
    const call = send({ ...delivery, ack, signal: AbortSignal.any([delivery.signal, late.signal]) });
    call.catch(() => {});
    try {
      return await Promise.race([call, timeout]);
    } finally {
      cancel();
    }
  }

  /** The next shard that works, for messages without a key. */
  function nextOpen(tried: ReadonlySet<number>): number | undefined {
    for (let step = 1; step <= count; step++) {
      const index = (last + step) % count;
      if (tried.has(index) || waitFor(shardAt(index)) > 0) continue;
      last = index;
      return index;
    }
    return undefined;
  }

  return {
    async send(all, delivery, sendTo) {
      const turn = limiter(MOST_AT_ONCE);
      const parts = new Map<number, T[]>();
      const free = nextOpen(new Set()) ?? 0;
      for (const each of all) {
        const index = each.key === undefined ? free : hashOf(each.key) % count;
        const part = parts.get(index);
        if (part) part.push(each);
        else parts.set(index, [each]);
      }
      const tried = new Set<number>();
      let unsent: T[] = [];

      /** Returns what the shard has not taken. */
      const attempt = async (index: number, part: readonly T[]): Promise<readonly T[]> => {
        const shard = shardAt(index);
        tried.add(index);
        const failed = await inTime(part, delivery, (own) => sendTo(index, part, own));
        // No shard is to blame, and the next invocation goes on.
        if (failed && isOutOfSubrequests(failed.error)) throw failed.error;
        if (failed) fail(shard, failed.error);
        else Object.assign(shard, { failures: 0, works: true, until: 0, error: undefined });
        return failed?.rest ?? [];
      };

      const open = [...parts].filter(([index]) => waitFor(shardAt(index)) === 0);
      // Where none is known to work, one is tried all the same: the destination as a whole has waited.
      const chosen = open.length > 0 || shards.some(({ works }) => works) ? open : [...parts].slice(0, 1);
      for (const [index, part] of parts) if (!chosen.some(([each]) => each === index)) unsent.push(...part);
      await Promise.all(chosen.map(([index, part]) => turn(async () => void unsent.push(...(await attempt(index, part))))));
      // Those without a key may go to any other.
      for (;;) {
        const loose = unsent.filter(({ key }) => key === undefined);
        const index = loose.length > 0 ? nextOpen(tried) : undefined;
        if (index === undefined) break;
        delivery.signal.throwIfAborted();
        const rest = await attempt(index, loose);
        unsent = [...unsent.filter(({ key }) => key !== undefined), ...rest];
      }
      const [first] = unsent;
      if (!first) return;
      const failing = (key: string | undefined): Shard => shardAt(key === undefined ? last : hashOf(key) % count);
      // The outbox waits for all of them, and then all are tried again.
      if (!shards.some(({ works }) => works)) {
        const { error } = shards.find((shard, index) => tried.has(index) && shard.failures > 0) ?? failing(first.key);
        for (const shard of shards) shard.until = 0;
        throw error;
      }
      for (const { id, key } of unsent) {
        const shard = failing(key);
        delivery.retry(id, { delaySeconds: Math.max(1, waitFor(shard)), countAttempt: false, reason: shard.error });
      }
    },
  };
}

/** FNV-1a over the characters of a key. */
function hashOf(key: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  return hash >>> 0;
}
