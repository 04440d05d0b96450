/** The event loop of the model: turns in the order of a virtual time, and the input gate that holds them back. */

import { Globals } from "./globals.ts";

/** What `blockConcurrencyWhile` or a transaction opens: until it is closed, only what began inside it runs on. */
export interface Section {
  readonly parent: Section | null;
  closed: boolean;
}

/** One life of the object in memory. Once it is dead, nothing of it runs on. */
export interface Life {
  dead: boolean;
}

/**
 * - `event`: a request, a timer, an answer from outside. None enters while storage is at work.
 * - `storage`: an operation of storage has ended.
 * - `world`: something outside the object, which no gate holds.
 */
type Kind = "event" | "storage" | "world";

interface Turn {
  readonly at: number;
  readonly kind: Kind;
  readonly section: Section | null;
  readonly life: Life | null;
  readonly run: () => void;
}

/** More turns than any story needs: beyond them something goes round in circles. */
const MOST_TURNS = 200_000;

/** Something outside the queue of turns that happens at a time: the platform's alarm. */
export interface Source {
  /** The time of the next, or infinity. */
  next(): number;
  fire(): void;
}

export class Loop {
  /** The time that passes, in milliseconds: timers go by it. What `Date.now()` shows may be off by `skew`. */
  now = 1_800_000_000_000;
  skew = 0;
  /** The section in which the turn under way runs. */
  section: Section | null = null;
  /** Storage operations under way. */
  busy = 0;
  turns = 0;
  source: Source | null = null;
  /** Called when everything that a turn set off has run. */
  ended: () => void = () => {};
  readonly #globals: Globals;
  #innermost: Section | null = null;
  #ready: Turn[] = [];
  #later: Turn[] = [];
  #wrong: { error: unknown } | null = null;

  constructor(seed: number, alive: () => Life | null) {
    this.#globals = new Globals(seed, {
      now: () => this.now + this.skew,
      after: (ms, work) => {
        const life = alive();
        if (!life) return () => {};
        return this.add("event", work, life, this.section, this.now + Math.max(0, ms));
      },
    });
  }

  get clock(): number {
    return this.now + this.skew;
  }

  /** Whether the object has something under way that needs no time to pass. */
  get working(): boolean {
    return this.busy > 0 || this.#ready.some(({ life }) => life !== null && !life.dead);
  }

  /** Queues a turn, and gives a function that takes it back. */
  add(kind: Kind, run: () => void, life: Life | null = null, section: Section | null = null, at: number = this.now): () => void {
    if (life?.dead) return () => {};
    const turn: Turn = { kind, run, life, section, at };
    if (at <= this.now) this.#ready.push(turn);
    else {
      let place = this.#later.length;
      while (place > 0 && (this.#later[place - 1] as Turn).at > at) place--;
      this.#later.splice(place, 0, turn);
    }
    return () => {
      this.#ready = this.#ready.filter((other) => other !== turn);
      this.#later = this.#later.filter((other) => other !== turn);
    };
  }

  /** Runs `body` alone: turns from outside it wait until what it gives has settled. */
  enclose<T>(life: Life, body: (section: Section) => Promise<T>): Promise<T> {
    const parent = this.section;
    return new Promise((resolve, reject) => {
      const begin = (): void => {
        const section: Section = { parent: open(parent), closed: false };
        this.#innermost = section;
        this.section = section;
        const end = (settle: () => void): void => {
          this.add(
            "storage",
            () => {
              section.closed = true;
              this.#innermost = open(section.parent);
              this.section = this.#innermost;
              settle();
            },
            life,
            section,
          );
        };
        body(section).then(
          (value) => end(() => resolve(value)),
          (error) => end(() => reject(error)),
        );
      };
      this.add("event", begin, life, parent);
    });
  }

  /** The object has died: nothing of it is under way any more. */
  clear(): void {
    this.busy = 0;
    this.#innermost = null;
    this.section = null;
    const alive = ({ life }: Turn): boolean => !life?.dead;
    this.#ready = this.#ready.filter(alive);
    this.#later = this.#later.filter(alive);
  }

  /** Ends the run under way with an error. */
  fail(error: unknown): void {
    this.#wrong ??= { error };
  }

  /** Takes turns until `done`, or until there is none up to the time `latest`. */
  run(done: () => boolean, latest: number = Number.POSITIVE_INFINITY): Promise<void> {
    const restore = this.#globals.install();
    return new Promise<void>((resolve, reject) => {
      const tick = (): void => {
        try {
          this.ended();
          if (this.#wrong) throw this.#wrong.error;
          const turn = done() ? undefined : this.#next(latest);
          if (!turn) {
            resolve();
            return;
          }
          if (++this.turns > MOST_TURNS) throw new Error(`More than ${MOST_TURNS} turns: the object never comes to rest.`);
          this.section = open(turn.section);
          turn.run();
        } catch (error) {
          this.#wrong = null;
          reject(error);
          return;
        }
        drained(tick);
      };
      drained(tick);
    }).finally(restore);
  }

  #next(latest: number): Turn | undefined {
    for (;;) {
      const place = this.#ready.findIndex((turn) => this.#mayRun(turn));
      if (place >= 0) return this.#ready.splice(place, 1)[0];
      const timer = this.#later[0]?.at ?? Number.POSITIVE_INFINITY;
      const alarm = this.source?.next() ?? Number.POSITIVE_INFINITY;
      const at = Math.min(timer, alarm);
      if (at > latest || at === Number.POSITIVE_INFINITY) {
        if (latest < Number.POSITIVE_INFINITY) this.now = Math.max(this.now, latest);
        return undefined;
      }
      this.now = Math.max(this.now, at);
      if (alarm <= timer) this.source?.fire();
      while (this.#later[0] && this.#later[0].at <= this.now) this.#ready.push(this.#later.shift() as Turn);
    }
  }

  #mayRun({ kind, section }: Turn): boolean {
    if (kind === "world") return true;
    return open(section) === this.#innermost && (kind === "storage" || this.busy === 0);
  }
}

/** Calls `work` when promises have no more to do: Node takes its ticks after all microtasks, but none between two ticks. */
function drained(work: () => void): void {
  queueMicrotask(() => process.nextTick(work));
}

/** The section itself, or the innermost around it that is still open. */
function open(section: Section | null): Section | null {
  let found = section;
  while (found?.closed) found = found.parent;
  return found;
}
