/** The conformance kit for destinations: one that is right passes all of it, and each that is broken fails the check that is made for that. */
import { describe, expect, it } from "vitest";
import type { OutboxDelivery, OutboxMessage } from "../../src/index.ts";
import { destinationChecks } from "../../src/testing/destination-checks.ts";
import type { CheckedDestination, DestinationEnd } from "../../src/testing/destination-trial.ts";

type Msg = { type: string; n: number };
type Message = OutboxMessage<Msg>;

/** Another end in memory: takes messages by id, refuses those of one type, is down or hangs as it is told. */
class End implements DestinationEnd<Msg> {
  readonly taken: string[] = [];
  down = false;
  hangs = false;
  closed = 0;
  readonly destination: CheckedDestination<Msg>;

  constructor(make: (end: End) => CheckedDestination<Msg>) {
    this.destination = make(this);
  }

  received = (): string[] => this.taken;
  close = (): void => void this.closed++;

  /** Takes one message, or says that it refuses it. */
  async post(id: string, { type }: Msg, signal?: AbortSignal): Promise<boolean> {
    await Promise.resolve();
    if (this.down) throw new Error("The other end is down.");
    if (this.hangs) {
      await new Promise((_, reject) => {
        signal?.addEventListener("abort", () => reject(signal.reason));
      });
    }
    if (type === "refused") return false;
    this.taken.push(id);
    return true;
  }
}

type Send = (end: End, messages: Message[], delivery: OutboxDelivery) => Promise<void>;

const right: Send = async (end, messages, { ack, reject, signal }) => {
  for (const { id, msg } of messages) {
    if (await end.post(id, msg, signal)) ack(id);
    else reject(id, "It is refused.");
  }
};

/** What is wrong, the name of the check that finds it, and how it sends. */
const BROKEN: readonly [string, string, Send, "batch"?][] = [
  ["loses the last message of a full batch", "delivers a batch", (end, messages, delivery) => right(end, messages.slice(0, 99), delivery)],
  [
    "says nothing of what it did not send",
    "delivers a batch",
    (end, messages, delivery) => right(end, messages.slice(0, 50), { ...delivery }),
  ],
  [
    "gives outcomes for other ids",
    "delivers a batch",
    async (end, messages, delivery) => {
      await right(end, messages, delivery);
      try {
        delivery.ack("another");
      } catch {}
    },
  ],
  [
    "sends with ids of its own",
    "same id",
    async (end, messages, delivery) => {
      for (const { id, msg, attempts } of messages) {
        await end.post(`${id}#${attempts}`, msg, delivery.signal);
        delivery.ack(id);
      }
    },
  ],
  ["turns the order of a batch around", "in order", (end, messages, delivery) => right(end, [...messages].reverse(), delivery), "batch"],
  [
    "empties the list",
    "as they are",
    async (end, messages, delivery) => {
      await right(end, messages, delivery);
      messages.length = 0;
    },
  ],
  [
    "writes into messages",
    "as they are",
    async (end, messages, delivery) => {
      await right(end, messages, delivery);
      for (const { msg } of messages) msg.n = 0;
    },
  ],
  [
    "throws for one message that is refused",
    "aside alone",
    async (end, messages, { ack }) => {
      for (const { id, msg } of messages) {
        if (!(await end.post(id, msg))) throw new Error("It is refused.");
        ack(id);
      }
    },
  ],
  [
    "rejects the neighbours of one that is refused",
    "aside alone",
    async (end, messages, delivery) => {
      if (messages.every(({ msg }) => msg.type !== "refused")) return right(end, messages, delivery);
      for (const { id } of messages) delivery.reject(id, "One of them is refused.");
    },
  ],
  [
    "takes one that is refused for delivered",
    "aside alone",
    async (end, messages, { ack }) => {
      for (const { id, msg } of messages) await end.post(id, msg).then(() => ack(id));
    },
  ],
  [
    "rejects without a reason",
    "aside alone",
    (end, messages, delivery) => right(end, messages, { ...delivery, reject: (id) => delivery.reject(id) }),
  ],
  [
    "swallows that the other end is down",
    "while the other end is down",
    (end, messages, delivery) => right(end, messages, delivery).catch(() => {}),
  ],
  [
    "blames messages for the other end",
    "while the other end is down",
    async (end, messages, delivery) => {
      for (const message of messages) await right(end, [message], delivery).catch((reason) => delivery.reject(message.id, reason));
    },
  ],
  [
    "throws what says nothing",
    "while the other end is down",
    (end, messages, delivery) => right(end, messages, delivery).catch(() => Promise.reject(undefined)),
  ],
  [
    "never notices that the other end is up again",
    "up again",
    (() => {
      const broken = new WeakSet<End>();
      return async (end, messages, delivery) => {
        if (broken.has(end)) throw new Error("It was down once.");
        if (end.down) broken.add(end);
        await right(end, messages, delivery);
      };
    })(),
  ],
  [
    "goes on when its signal is aborted",
    "signal is aborted",
    (end, messages, delivery) => right(end, messages, { ...delivery, signal: new AbortController().signal }),
  ],
  [
    "returns without an answer when its signal is aborted",
    "signal is aborted",
    (end, messages, delivery) => right(end, messages, delivery).catch((error) => (end.hangs ? undefined : Promise.reject(error))),
  ],
  [
    "mixes up calls that overlap",
    "overlap",
    (() => {
      const open = new WeakMap<End, Message[]>();
      return async (end, messages, delivery) => {
        const before = open.get(end);
        open.set(end, messages);
        await Promise.resolve();
        await right(end, before ?? messages, delivery);
        open.delete(end);
      };
    })(),
  ],
];

function checksOf(send: Send, ordering?: "batch") {
  const ends: End[] = [];
  const make = () => {
    const end = new End((end) => {
      const destination = (messages: Message[], delivery: OutboxDelivery) => send(end, messages, delivery);
      return ordering ? Object.assign(destination, { ordering }) : destination;
    });
    ends.push(end);
    return end;
  };
  const checks = destinationChecks({
    make,
    refused: (n) => ({ type: "refused", n }),
    down: (end) => {
      end.down = true;
    },
    up: (end) => {
      end.down = false;
    },
    hang: (end) => {
      end.hangs = true;
    },
    patienceSeconds: 0.2,
  });
  return { checks, ends };
}

/** The names of the checks that a destination does not pass. */
async function failed(send: Send, ordering?: "batch"): Promise<string[]> {
  const names: string[] = [];
  for (const { name, run } of checksOf(send, ordering).checks) await run().catch(() => void names.push(name));
  return names;
}

describe("destinationChecks", () => {
  it.each([undefined, "batch" as const])(
    "are all passed by a destination that is right (ordering %s), with an end of its own each",
    async (ordering) => {
      const { checks, ends } = checksOf(right, ordering);
      for (const { run } of checks) await run();
      expect(ends.map(({ closed }) => closed)).toEqual(checks.map(() => 1));
      expect(new Set(checks.map(({ name }) => name)).size).toBe(checks.length);
    },
  );

  it.each(BROKEN)("find a destination that %s: it fails the check “%s”", async (_, name, send, ordering) => {
    expect(await failed(send, ordering)).toContainEqual(expect.stringContaining(name));
  });

  it("has a broken destination for each check", () => {
    const { checks } = checksOf(right);
    expect(checks.filter(({ name }) => !BROKEN.some(([, part]) => name.includes(part)))).toEqual([]);
  });

  it("check only what the other end can do", () => {
    const names = (more: object) => destinationChecks({ make: () => new End(() => async () => {}), ...more }).map(({ name }) => name);
    const least = names({});
    expect(least).toHaveLength(5);
    const down = () => {};
    expect(names({ down }).length).toBe(6);
    expect(names({ down, up: down }).length).toBe(7);
    expect(names({ up: down })).toEqual(least);
  });

  it("close the other end of a destination that fails, and say what is wrong with it", async () => {
    const { checks, ends } = checksOf(async () => {});
    await expect(checks[0]?.run()).rejects.toThrow("100 of 100 messages were said to be delivered, and have not arrived under their ids.");
    expect(ends[0]?.closed).toBe(1);
  });

  it.each([
    ["an option that there is none of", { make: () => {}, refuse: () => {} }, "did you mean `refused`?"],
    ["no `make`", {}, "Expected `subject.make` to be a function, got undefined."],
    ["`hang` that is no function", { make: () => {}, hang: true }, "Expected `subject.hang` to be a function, got true."],
    [
      "a patience of 0",
      { make: () => {}, patienceSeconds: 0 },
      "Expected `subject.patienceSeconds` to be a number from 0.1 to 600, got 0.",
    ],
    ["nothing", undefined, "Expected `subject` to be an object, got undefined."],
  ])("refuse %s", (_, subject, text) => {
    expect(() => destinationChecks(subject as never)).toThrow(TypeError);
    expect(() => destinationChecks(subject as never)).toThrow(text);
  });
});
