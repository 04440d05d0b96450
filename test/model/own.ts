/** The object's own alarm, as its own code sees it: what was set, what was called, and what is wrong with that. */

export class OwnAlarm {
  /** Every time that was ever asked for. */
  readonly #asked: Set<number> = new Set();
  /** What must still fire; `"unknown"` after a crash in the midst of a change. */
  #expected: number | null | "unknown" = null;
  #changing = false;
  /** The alarm was lost once: whoever set it again chose the time. */
  #lost = false;
  /** The clock was turned back once. */
  #back = false;
  readonly #fired: Map<number, number> = new Map();
  #deaths = 0;
  /** The handler throws so many times more. */
  throws = 0;
  #thrown = 0;

  constructor(
    readonly clock: () => number,
    readonly wrong: string[],
  ) {}

  /** The object's code asks for a time, or for none. Whoever calls this calls `done` when the storage call has ended. */
  change(time: number | null): { done: () => void } {
    if (time !== null) this.#asked.add(time);
    this.#changing = true;
    this.#expected = "unknown";
    return {
      done: () => {
        this.#changing = false;
        this.#expected = time;
      },
    };
  }

  /** Whether the handler has thrown. */
  get thrown(): boolean {
    return this.#thrown > 0;
  }

  /** For whoever compares two stories. */
  get state(): string {
    return JSON.stringify([this.#expected, [...this.#fired], this.throws, this.#thrown]);
  }

  died(): void {
    this.#deaths++;
    if (this.#changing) this.#expected = "unknown";
    this.#changing = false;
  }

  /** The clock was set: an alarm may come at another time than it was set for. */
  jumped(seconds: number): void {
    if (seconds < 0) this.#back = true;
  }

  /** The platform has lost the alarm: the object's own may have gone with it. */
  lost(): void {
    this.#expected = "unknown";
    this.#lost = true;
  }

  /** The handler has been called. */
  called({ scheduledTime }: AlarmInvocationInfo): void {
    const now = this.clock();
    if (!this.#asked.has(scheduledTime) && !this.#lost && !this.#back)
      this.wrong.push(`the object's own alarm was called for ${scheduledTime}, which nobody set`);
    if (now < scheduledTime && !this.#back) this.wrong.push(`the object's own alarm was called ${scheduledTime - now} ms too early`);
    const times = (this.#fired.get(scheduledTime) ?? 0) + 1;
    this.#fired.set(scheduledTime, times);
    if (times > 1 + this.#deaths + this.#thrown) this.wrong.push(`the object's own alarm was called ${times} times for nothing`);
    if (this.throws > 0) {
      this.throws--;
      this.#thrown++;
      throw new Error("the object's own alarm throws");
    }
    // Overdue when it is set again, and with nothing else waiting, it is the slot's new time that tells what is called.
    const again = this.#lost && typeof this.#expected === "number" && scheduledTime > this.#expected;
    if (this.#expected === scheduledTime || again) this.#expected = null;
  }

  ended(): void {
    if (typeof this.#expected === "number" && !this.#back)
      this.wrong.push(`the object's own alarm was set to ${this.#expected}, and never called`);
  }
}
