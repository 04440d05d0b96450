/** What the object does in `deadMessage`, and the check that it commits with the dead letter: each of them, and no other. */

import type { OutboxDeadLetter, OutboxTransaction } from "../../src/index.ts";
import type { Msg } from "./destination.ts";
import type { Durable } from "./durable.ts";

/** Writes a row, and sends a message as well; or then fails in one of these ways. */
export const ENDS = ["writes", "sends", "throws", "rolls back", "hangs", "dies"] as const;
export type DeadEnd = (typeof ENDS)[number];

/** What it needs of the story. */
interface Promises {
  readonly wrong: string[];
  next(): number;
  promise(options: object, isDurable: (label: number, rows: ReadonlyMap<string, unknown>) => boolean, label: number): number;
  hopeless(label: number, undone: boolean): void;
}

const PREFIX = "own:dead:";

export class DeadMessages {
  /** How its calls end; `null` where the class has no `deadMessage`. */
  how: DeadEnd | null;
  /** The next call ends in this way, once. */
  next: DeadEnd | null = null;
  /** Messages that became dead letters without their row, because the handler failed. */
  readonly without: Set<number> = new Set();
  /** What each id that it was called with stands for. */
  readonly #labels: Map<string, number> = new Map();
  /** Messages that were dead letters in any commit. */
  readonly #ever: Set<number> = new Set();
  /** Messages that it has sent: no message is sent about these. */
  readonly #reports: Set<number> = new Set();
  #calls = 0;
  #areCleared = false;

  constructor(
    readonly story: Promises,
    how: DeadEnd | null,
  ) {
    this.how = how;
  }

  async handle(ctx: DurableObjectState, { id, msg: { n } }: OutboxDeadLetter<Msg>, txn: OutboxTransaction<Msg>): Promise<void> {
    const { story } = this;
    const how = this.next ?? this.how;
    this.next = null;
    this.#labels.set(id, n);
    if (this.#calls++ > 10_000) story.wrong.push("deadMessage() is called without end");
    await txn.put(`${PREFIX}${n}`, how);
    if (how === "writes") return;
    // One that hangs, or dies, has no end that could say what became of its message.
    if (how === "hangs") return new Promise(() => {});
    if (how === "dies") return void ctx.abort("dies in deadMessage");
    if (this.#reports.has(n)) return;
    const label = story.next();
    this.#reports.add(label);
    const key = `own:report:${label}`;
    story.promise({}, (_, rows) => rows.has(key), label);
    const receipt = txn.send({ n: label });
    await txn.put(key, label);
    await receipt;
    if (how === "sends") return;
    story.hopeless(label, true);
    if (how === "rolls back") return txn.rollback();
    throw new Error("deadMessage fails, as the story says");
  }

  /** The object's own rows have been deleted, or are being: from then on only the calls tell. */
  cleared(): void {
    this.#areCleared = true;
  }

  /** The outbox has said that the handler failed for a message. */
  failed(id: string): void {
    const label = this.#labels.get(id);
    if (label === undefined) this.story.wrong.push(`deadMessage() was not called for ${id}, and is said to have failed`);
    else this.without.add(label);
  }

  /** Something has become durable. */
  committed({ dead }: Durable, rows: ReadonlyMap<string, unknown>): void {
    for (const { label } of dead) {
      this.#ever.add(label);
      const isThere = this.#areCleared ? [...this.#labels.values()].includes(label) : rows.has(`${PREFIX}${label}`);
      if (this.how && !isThere && !this.without.has(label))
        this.story.wrong.push(`${label} is a dead letter, and deadMessage() was not called`);
    }
    for (const key of rows.keys()) {
      const label = key.startsWith(PREFIX) ? Number(key.slice(PREFIX.length)) : undefined;
      if (label !== undefined && !this.#ever.has(label))
        this.story.wrong.push(`deadMessage() has written for ${label}, which is no dead letter`);
    }
  }
}
