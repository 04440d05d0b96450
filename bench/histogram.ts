/** A histogram of times: what a million of them come to, in a few hundred numbers. */
import type { Times } from "./results.ts";

/** Buckets of each power of ten: neighbours are 2.3 % apart, so a percentile is right within that. */
const BUCKETS = 100;
/** What is smaller, or negative, is in the first bucket, in milliseconds. */
const LEAST_MS = 0.01;
/** Buckets are put together when they are written, so many of each power of ten. */
const WRITTEN = 10;

export class Histogram {
  readonly #counts: number[] = [];
  #count = 0;
  #most = Number.NEGATIVE_INFINITY;

  /** @param time in milliseconds */
  add(time: number): void {
    const bucket = Math.max(0, Math.ceil(Math.log10(time / LEAST_MS) * BUCKETS)) || 0;
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#count++;
    this.#most = Math.max(this.#most, time);
  }

  get count(): number {
    return this.#count;
  }

  times(): Times {
    const joined = new Map<number, number>();
    for (const [bucket, count] of this.#counts.entries()) {
      if (!count) continue;
      const upTo = upperBound(Math.ceil(bucket / (BUCKETS / WRITTEN)) * (BUCKETS / WRITTEN));
      joined.set(upTo, (joined.get(upTo) ?? 0) + count);
    }
    const [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map((share) => this.#quantile(share)) as [number, number, number, number];
    return { p50, p90, p99, p999, most: this.#most, buckets: [...joined] };
  }

  /** The upper bound of the bucket in which so much has come. */
  #quantile(share: number): number {
    let seen = 0;
    for (const [bucket, count] of this.#counts.entries()) {
      seen += count ?? 0;
      if (seen >= this.#count * share && count) return Math.min(upperBound(bucket), this.#most);
    }
    return Number.NaN;
  }
}

function upperBound(bucket: number): number {
  return Number((LEAST_MS * 10 ** (bucket / BUCKETS)).toPrecision(4));
}
