/**
 * What a framework does, in four worlds: each fact is first held against the framework without an outbox, and then
 * beside one that is idle, one that delivers all the while, and one whose destination is down all the while.
 */
import { evictDurableObject } from "cloudflare:test";
import { describe, expect } from "vitest";
import { backlogged, delivered, drained, fresh, handedOver, inside, type Kind, type Namespace, type Stub, sent, up } from "./harness.ts";
import { type Staged, stageOf } from "./stage.ts";

interface World {
  readonly world: string;
  /** A fresh object in this world. */
  readonly begin: (kind: Kind) => Promise<Stub>;
  /** Asserts that the outbox was what the world says of it, and that nothing was lost. */
  readonly end: (stub: Stub) => Promise<void>;
  /** Ends the object's life without a crash. */
  readonly evict: (stub: Stub) => Promise<void>;
}

const WORLDS: World[] = [
  {
    world: "without an outbox",
    begin: ({ bare }) => started(bare),
    end: async (stub) => expect(await inside(stub, ({ outbox }) => outbox)).toBeUndefined(),
    evict: evictDurableObject,
  },
  {
    world: "beside an idle outbox",
    begin: ({ wrapped }) => started(wrapped),
    async end(stub) {
      expect(stageOf(stub).calls).toEqual([]);
      await inside(stub, ({ outbox }) => outbox.send("first"));
      await delivered(stub, "first");
    },
    evict: evictDurableObject,
  },
  {
    world: "beside an outbox that delivers all the while",
    async begin({ wrapped }) {
      const stub = fresh(wrapped);
      await feed(stub);
      return stub;
    },
    async end(stub) {
      await handedOver(stub, sent(stub).length + 2);
      up(stub);
      await drained(stub);
      expect(sent(stub)).toEqual(sent(stub).map((_, n) => n + 1));
    },
    async evict(stub) {
      // An object is evicted while it does nothing: deliveries rest until then.
      up(stub);
      await drained(stub);
      await evictDurableObject(stub);
      await feed(stub);
    },
  },
  {
    world: "beside an outbox whose destination is down",
    begin: ({ wrapped }) => backlogged(wrapped),
    async end(stub) {
      await handedOver(stub, 2);
      expect(stageOf(stub).taken).toEqual([]);
      up(stub);
      await delivered(stub, "waits");
      await drained(stub);
    },
    evict: evictDurableObject,
  },
];

async function started(namespace: Namespace): Promise<Stub> {
  const stub = fresh(namespace);
  await inside(stub, () => {});
  return stub;
}

/** Begins a chain of messages, or goes on with it: each, while it is being sent, is followed by the next, which has an alarm of its own. */
async function feed(stub: Stub): Promise<void> {
  const next = (outbox: Staged["outbox"], delaySeconds: number) => outbox.send(sent(stub).length + 1, { delaySeconds });
  stageOf(stub).destination = async (outbox) => {
    await scheduler.wait(20);
    await next(outbox, 0.03);
  };
  const count = sent(stub).length;
  await inside(stub, ({ outbox }) => next(outbox, 0));
  await handedOver(stub, count + 1);
}

/** The steps of a test that runs in every world. */
export interface Steps {
  readonly begin: () => Promise<Stub>;
  readonly end: World["end"];
  readonly evict: World["evict"];
}

/** Declares a suite once and runs it in every world. Every test begins with `begin` and ends with `end`. */
export function inEveryWorld(title: string, kind: Kind, suite: (steps: Steps) => void): void {
  describe.concurrent.each(WORLDS)(`${title} $world`, ({ begin, end, evict }) => suite({ begin: () => begin(kind), end, evict }));
}
