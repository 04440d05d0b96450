/** Ids at random: whatever becomes of their messages, an id is known exactly as long as it should be, in every life of the object. */
import { evictDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { SEED, size, some } from "../../support/random.ts";
import { numbers } from "../support/batches.ts";
import { Draw } from "../support/fuzz-draw.ts";
import { again, type Backend, inside, onBothBackends, type Stub } from "../support/harness.ts";
import { forward, ledgered } from "../support/lanes.ts";
import { patient } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

console.log(`idempotency-random: VITE_SEED=${SEED}`);

const WINDOW_SECONDS = 60;
/** Sums of these never come within a second of the window. */
const STEPS_SECONDS = [0, 13, 13, 31, 61];

/** What should be known of an id: the sequence of its message, and until when, once that was delivered. */
interface Known {
  readonly sequence: number;
  readonly until?: number;
}

/** A story of puts, deliveries, retries, dead letters and lives, beside what should be known. */
class Story {
  readonly known = new Map<string, Known>();
  readonly wrong: string[] = [];
  readonly #draw: Draw;
  readonly #ids: string[];
  /** In this call of `sendMessages`; in earlier ones of its run, which have failed: whether these still count as in hand is open. */
  #inHand = new Set<number>();
  #before = new Set<number>();
  /** The messages that are stored under ids of the caller's own, and ids that were given to another one meanwhile. */
  readonly #own = new Map<string, number>();
  readonly #taken = new Set<string>();
  #dead: { id: string; sequence: number }[] = [];

  constructor(seed: number, ids: number) {
    this.#draw = new Draw(seed);
    this.#ids = numbers(ids).map((n) => (n % 9 === 0 ? `✓ number ${n}` : `order:${n}`));
  }

  /** Puts with an id, and compares the receipt with what should be known. */
  async put(outbox: OutboxManager): Promise<void> {
    const draw = this.#draw;
    const id = draw.pick(this.#ids);
    const known = this.known.get(id);
    const over = known?.until !== undefined && known.until <= Date.now();
    const taken = known !== undefined && this.#inHand.has(known.sequence);
    const repeated = known !== undefined && !over && !taken;
    const key = draw.chance(0.3) ? { key: draw.pick(["a", "b"]) } : {};
    const late = draw.chance(0.1) ? { delaySeconds: 5 } : {};
    const receipt = await outbox.put(`state:${draw.below(5)}`, 1, id, { id, ...key, ...late });
    const again = receipt.deduplicated === true;
    const open = repeated && !taken && this.#before.has(known.sequence);
    if ((repeated !== again && !open) || (again && receipt.sequence !== known?.sequence)) {
      this.wrong.push(`${id}: expected ${repeated ? known.sequence : "a new message"}, got ${JSON.stringify(receipt)}`);
    }
    if (taken) this.#taken.add(id);
    // Two messages that are stored at the same time never have the same id; and nobody gets another one without need.
    const stored = this.#own.has(id);
    if (!again && (stored ? receipt.id === id : receipt.id !== id && !this.#taken.has(id) && !open)) {
      this.wrong.push(`${id}: one of this id is stored: ${stored}, and the new one is ${receipt.id}`);
    }
    if (!again && receipt.id === id) this.#own.set(id, receipt.sequence);
    if (open && !again) this.#taken.add(id);
    if (!again) this.known.set(id, { sequence: receipt.sequence });
  }

  /** A message has left for good: what its id names is known for the window, or not at all. */
  #gone(sequence: number, delivered: boolean): void {
    for (const [id, own] of this.#own) if (own === sequence) this.#own.delete(id);
    for (const [id, known] of this.known) {
      if (known.sequence !== sequence) continue;
      if (delivered) this.known.set(id, { sequence, until: Date.now() + WINDOW_SECONDS * 1000 });
      else this.known.delete(id);
    }
  }

  /** What the destination does with a call. */
  script(stub: Stub, outbox: OutboxManager): void {
    const draw = this.#draw;
    stageOf(stub).rest = async (messages, delivery) => {
      for (const sequence of this.#inHand) this.#before.add(sequence);
      this.#inHand = new Set(messages.map(({ sequence }) => sequence));
      const delivered: number[] = [];
      const rest: number[] = [];
      for (const { id, sequence } of messages) {
        const luck = draw.next();
        if (luck < 0.1) delivery.retry(id, { delaySeconds: draw.pick([0, 20]) });
        else if (luck < 0.15) {
          delivery.reject(id, "at random");
          this.#dead.push({ id, sequence });
        } else if (luck < 0.5) {
          delivery.ack(id);
          delivered.push(sequence);
        } else rest.push(sequence);
      }
      const fails = draw.chance(0.15);
      if (!fails) delivered.push(...rest);
      while (draw.chance(0.2)) await this.put(outbox);
      for (const sequence of delivered) this.#gone(sequence, true);
      if (fails) throw new Error("at random");
    };
  }

  /** One step of the object's own code, or of whoever is on call. */
  async step(outbox: OutboxManager): Promise<void> {
    const luck = this.#draw.next();
    if (luck < 0.65) for (const _ of numbers(1 + this.#draw.below(12))) await this.put(outbox);
    else if (luck < 0.85) {
      await outbox.flush();
      this.#inHand.clear();
      this.#before.clear();
    } else if (luck < 0.9) forward(this.#draw.pick(STEPS_SECONDS));
    else if (luck < 0.95) {
      await outbox.redrive();
      this.#dead = [];
    } else if (this.#dead.length > 0) {
      const { id, sequence } = this.#draw.pick(this.#dead);
      if ((await outbox.discard([id])) > 0) this.#gone(sequence, false);
      this.#dead = this.#dead.filter((letter) => letter.sequence !== sequence);
    }
  }
}

async function play(backend: Backend, seed: number, ids: number): Promise<void> {
  const stub = ledgered(backend, { retry: patient, idempotencySeconds: WINDOW_SECONDS, batchSize: 1 + (seed % 40) });
  const story = new Story(seed, ids);
  for (let life = 0; life < 3; life++) {
    // Nothing is delivered but what the story asks for: neither alarms nor looks come in a block, and outside the outbox is paused.
    await inside(again(stub), (_, outbox, state) =>
      state.blockConcurrencyWhile(async () => {
        story.script(stub, outbox);
        await outbox.resume();
        for (let n = 0; n < 40; n++) await story.step(outbox);
        await outbox.pause();
      }),
    );
    await evictDurableObject(again(stub));
  }
  expect([`VITE_SEED=${SEED} (${seed})`, ...story.wrong]).toEqual([`VITE_SEED=${SEED} (${seed})`]);
}

onBothBackends("ids at random", (backend) => {
  it.each(some(2, [6, 80, 400]))("are known as long as they should be, among %i", async (ids) => {
    for (const n of numbers(size(1, 3))) await play(backend, SEED * 1000 + n, ids);
  });
});
