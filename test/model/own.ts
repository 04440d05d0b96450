/** The object's own alarm, as its own code sees it: what was set, what was called, and what is wrong with that. */

/** The platform's rule for an alarm that fails: again after 2 s, doubling, six times. Its clock may be off by some milliseconds. */
const RETRY_MS = 1990;
const CALLS = 7;

export class OwnAlarm {
  /** Every time that was ever asked for. */
  readonly #asked: Set<number> = new Set();
  /** What must still fire; `"unknown"` after a crash in the midst of a change. */
  #expected: number | null | "unknown" = null;
  #changing = false;
  /** How often it was set or deleted. */
  #changes = 0;
  /** How often the alarm was lost: the object that sets it again chooses the time. */
  #losses = 0;
  /** The clock was set once, and turned back once. */
  #jumped = false;
  #back = false;
  /** The call that failed last, if none has succeeded since. */
  #failed: { readonly time: number; readonly at: number; readonly calls: number } | null = null;
  readonly #fired: Map<number, number> = new Map();
  /** How often a time was asked for again after it had fired: the clock was turned back. */
  readonly #again: Map<number, number> = new Map();
  #deaths = 0;
  /** The handler throws so many times more. */
  throws = 0;
  #thrown = 0;
  /** The platform gave the slot up, and some of its calls died before the handler could be called: nobody knows how often it has failed. */
  #uncounted = false;
  /** The handler dies with its object so many times more. */
  dies = 0;
  /** When it dies it asks not to be repeated: `ctx.abort(reason, { retryAlarm: false })`. */
  abandons = false;
  /** How often the handler has been called. */
  calls = 0;

  constructor(
    readonly clock: () => number,
    readonly wrong: string[],
    /** How long a commit takes at most, in milliseconds: the retry is due some time after the call was written down, and then it begins. */
    readonly commitMs: number,
  ) {}

  /** The object's code asks for a time, or for none. The caller then calls `done` when the storage call has ended, or `undone` when it was rolled back. */
  change(time: number | null): { done: () => void; undone: () => void; unknown: () => void } {
    const before = this.#expected;
    const times = (of: typeof before): number => (typeof of === "number" ? (this.#fired.get(of) ?? 0) : 0);
    const calls = { before: times(before), time: times(time) };
    const losses = this.#losses;
    if (time !== null) this.#asked.add(time);
    if (time !== null && times(time) > 0 && this.#back) this.#again.set(time, (this.#again.get(time) ?? 0) + 1);
    this.#failed = null;
    this.#uncounted = false;
    this.#changing = true;
    this.#expected = "unknown";
    const turn = ++this.#changes;
    /** The last one that was asked for decides, whichever is told first. It may have been called, or lost, before its call has ended. */
    const end = (what: typeof before, called: number): void => {
      if (turn !== this.#changes) return;
      this.#changing = false;
      this.#expected = this.#losses > losses ? "unknown" : times(what) > called ? null : what;
    };
    return {
      done: () => end(time, calls.time),
      undone: () => end(before, calls.before),
      unknown: () => end("unknown", 0),
    };
  }

  /** Whether the handler has thrown. */
  get thrown(): boolean {
    return this.#thrown > 0;
  }

  /** For whoever compares two stories. */
  get state(): string {
    return JSON.stringify([this.#expected, this.#failed, [...this.#fired], this.#uncounted, this.throws, this.#thrown, this.dies]);
  }

  died(): void {
    this.#deaths++;
    if (this.#changing) this.#expected = "unknown";
    this.#changing = false;
  }

  /** The clock was set: an alarm may come at another time than it was set for. */
  jumped(seconds: number): void {
    this.#jumped = true;
    if (seconds < 0) this.#back = true;
  }

  /** The platform has lost the alarm: the object's own may have gone with it. */
  lost(): void {
    this.#expected = "unknown";
    this.#failed = null;
    this.#losses++;
  }

  /** A call that had ended well is repeated, and the row that would tell whose it is was deleted: nobody can know. */
  orphaned(time: number): void {
    this.#asked.add(time);
  }

  /** The platform has called seven times, and every call has died. */
  givenUp(): void {
    this.#uncounted = this.#failed !== null && this.#failed.calls < CALLS;
    if (typeof this.#expected === "number" && this.#expected <= this.clock()) this.#expected = "unknown";
  }

  /** The handler has been called. Returns whether it is to die with its object. */
  called({ scheduledTime, retryCount }: AlarmInvocationInfo): boolean {
    const now = this.clock();
    this.calls++;
    if (!this.#asked.has(scheduledTime) && this.#losses === 0 && !this.#back)
      this.wrong.push(`the object's own alarm was called for ${scheduledTime}, which nobody set`);
    if (now < scheduledTime && !this.#back) this.wrong.push(`the object's own alarm was called ${scheduledTime - now} ms too early`);
    const times = (this.#fired.get(scheduledTime) ?? 0) + 1;
    this.#fired.set(scheduledTime, times);
    if (times > 1 + (this.#again.get(scheduledTime) ?? 0) + this.#deaths + this.#thrown)
      this.wrong.push(`the object's own alarm was called ${times} times for nothing`);
    this.#checkRetry(scheduledTime, now, retryCount);
    if (this.throws > 0) {
      this.throws--;
      this.#thrown++;
      this.#fails(scheduledTime, now);
      throw new Error("the object's own alarm throws");
    }
    if (this.dies > 0) {
      this.dies--;
      this.#fails(scheduledTime, now);
      // Whether it is repeated all the same depends on whether messages wait.
      if (this.abandons && this.#expected === scheduledTime) this.#expected = "unknown";
      return true;
    }
    this.#failed = null;
    // Overdue when it is set again, and with nothing else waiting, it is the slot's new time that tells what is called.
    const again = this.#losses > 0 && typeof this.#expected === "number" && scheduledTime > this.#expected;
    if (this.#expected === scheduledTime || again) this.#expected = null;
    return false;
  }

  #fails(time: number, at: number): void {
    const calls = this.#failed?.time === time ? this.#failed.calls + 1 : 1;
    this.#failed = { time, at, calls };
    // The platform counts other deaths of the call as well.
    if (calls + this.#deaths >= CALLS && this.#expected === time) this.#expected = "unknown";
  }

  /** A call that follows one that failed comes no sooner and no more often than on the platform alone. */
  #checkRetry(time: number, now: number, retryCount: number): void {
    if (this.#uncounted && retryCount === 0) this.#failed = null;
    this.#uncounted = false;
    const failed = this.#failed;
    if (failed?.time !== time || this.#jumped) return;
    const { at, calls } = failed;
    if (calls >= CALLS) this.wrong.push(`the object's own alarm failed ${calls} times, and was called again`);
    const wait = RETRY_MS * 2 ** (calls - 1) - this.commitMs;
    if (now - at < wait) this.wrong.push(`the object's own alarm was called again ${now - at} ms after it had failed ${calls} times`);
  }

  ended(): void {
    if (typeof this.#expected === "number" && !this.#back)
      this.wrong.push(`the object's own alarm was set to ${this.#expected}, and never called`);
  }
}
