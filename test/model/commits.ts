/** Commits: what one turn of the object has written goes to the disk together, at once or some milliseconds later, in the order of the turns. */

import type { Alarms } from "./alarms.ts";
import { chance } from "./globals.ts";
import { type Disk, Layer } from "./layers.ts";
import type { Life, Loop } from "./loop.ts";

/** How long a commit takes: no time, or 5 to 50 ms. */
export type Speed = "quick" | "slow";
export const SLOWEST_MS: Readonly<Record<Speed, number>> = { quick: 0, slow: 50 };
const FASTEST_MS = 5;

/** A commit under way. */
interface Commit {
  readonly layer: Layer;
  readonly at: number;
  /** The call of the alarm in which it was written. */
  readonly call: object | null;
  readonly waiting: (() => void)[];
}

/** The commits of one life of the object. */
export class Commits {
  readonly #under: Commit[] = [];

  constructor(
    readonly world: {
      readonly disk: Disk;
      readonly loop: Loop;
      readonly alarms: Alarms;
      /** Passes one step. Returns whether the object still lives. */
      hook(label: string): boolean;
      /** Told of each commit when it is durable. */
      readonly committed: () => void;
    },
    readonly life: Life,
    /** What the turn under way has written. */
    readonly turn: Layer,
    /** How long the next commit takes, in milliseconds. */
    readonly takes: () => number,
  ) {}

  /** Whether something that was written is not durable. */
  get underWay(): boolean {
    return this.#under.length > 0 || !this.turn.empty;
  }

  /** A turn has ended. */
  begin(): void {
    const { turn, world, life } = this;
    if (turn.empty) return;
    const call = world.alarms.entry;
    const ms = this.takes();
    if (ms === 0 && this.#under.length === 0) {
      this.#write(turn, call);
      return;
    }
    // Reads find it between the disk and what the next turn writes.
    const layer = new Layer(turn.below);
    turn.flush(layer);
    turn.below = layer;
    const commit: Commit = { layer, at: Math.max(world.loop.now + ms, this.#under.at(-1)?.at ?? 0), call, waiting: [] };
    this.#under.push(commit);
    world.loop.add("world", () => this.#end(commit), life, null, commit.at);
  }

  /**
   * Calls `then` in a turn of the world when everything is durable that has been written by then. What was written with `allowUnconfirmed`
   * counts only for `all`.
   */
  after(then: () => void, all = false): void {
    const { loop } = this.world;
    const look = (): void => {
      const last = this.#under.findLast(({ layer }) => all || layer.confirms);
      if (last) last.waiting.push(() => loop.add("world", then, this.life));
      else then();
    };
    loop.add("world", look, this.life);
  }

  #end({ layer, call, waiting }: Commit): void {
    if (!this.#write(layer, call)) return;
    this.#under.shift();
    (this.#under[0]?.layer ?? this.turn).below = this.world.disk;
    for (const then of waiting) then();
  }

  /** Returns whether the object still lives. */
  #write(layer: Layer, call: object | null): boolean {
    const { world } = this;
    if (layer.wiped) {
      // `deleteAll` is a commit of its own: what is written after it follows.
      if (!world.hook("commit of deleteAll")) return false;
      world.disk.rows.clear();
      layer.wiped = false;
      if (!world.hook("deleteAll committed")) return false;
    }
    if (!world.hook("commit")) return false;
    if (layer.flush(world.disk)) world.alarms.changed(call);
    world.committed();
    return world.hook("committed");
  }
}

/** How long each commit takes, from a seed. */
export function durations(speed: Speed, seed: number): () => number {
  const next = chance(seed + 7);
  return () => (speed === "slow" ? FASTEST_MS + (next() % (SLOWEST_MS.slow - FASTEST_MS + 1)) : 0);
}
