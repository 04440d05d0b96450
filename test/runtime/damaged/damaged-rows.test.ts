/** Rows that are not as they were written: each way in which one can be damaged, wherever it is, costs what is in it and nothing else. */
import { describe, expect, it } from "vitest";
import type { OutboxEvent } from "../../../src/index.ts";
import { some } from "../../support/random.ts";
import { boxWith, callsOf, numbers } from "../support/batches.ts";
import { type Backend, crash, eventually, inside, native, onBothBackends, outboxRows, type Stub, sent } from "../support/harness.ts";
import { deadOf, idle, listed, resumed, statsOf, waiting } from "../support/standing.ts";
import { stageOf } from "../support/worker.ts";

/** What happens to a row. It gives what is to be found there in the end. */
type Damage = (value: unknown) => { value: unknown; kept: unknown; lost: unknown[] };

const messageIn = (line: string): unknown => JSON.parse(`[${line}]`)[2];

/** The messages in a row, which is a text of lines. */
const messagesIn = (value: unknown): unknown[] => String(value).split("\n").slice(1).map(messageIn);

/** Breaks lines of a row. Without a message that is left, nobody ever writes the row again. */
function broken(
  value: unknown,
  which: (line: number, count: number) => boolean,
  by: (line: string) => string = (line) => `${line}{`,
): ReturnType<Damage> {
  const [head, ...lines] = String(value).split("\n");
  const bad = (line: number) => which(line, lines.length);
  return {
    value: [head, ...lines.map((line, i) => (bad(i) ? by(line) : line))].join("\n"),
    kept: [head, ...lines.filter((_, i) => bad(i)).map(by)].join("\n"),
    lost: lines.filter((_, i) => bad(i)).map(messageIn),
  };
}

/** All of the row is lost, and stays as it is. */
const whole =
  (damaged: (text: string) => unknown): Damage =>
  (value) => ({ value: damaged(String(value)), kept: damaged(String(value)), lost: messagesIn(value) });

/** Storage takes it and can't read it. It can't be compared either. */
const UNREADABLE = "what storage can't read";

const DAMAGES: Record<string, Damage> = {
  "the first line": (value) => broken(value, (line) => line === 0),
  "the last line": (value) => broken(value, (line, count) => line === count - 1),
  "every other line": (value) => broken(value, (line) => line % 2 === 1),
  "all lines but the last": (value) => broken(value, (line, count) => line < count - 1),
  "every line": (value) => broken(value, () => true),
  "a line that is empty": (value) =>
    broken(
      value,
      (line) => line === 0,
      () => "",
    ),
  "a line without a time": (value) =>
    broken(
      value,
      (line) => line === 0,
      (line) => line.replace(/^(\d+),\d+/, "$1,null"),
    ),
  "a line with a text for its position": (value) =>
    broken(
      value,
      (line) => line === 0,
      (line) => line.replace(/^(\d+)/, '"$1"'),
    ),
  "two lines that only fail together": (value) =>
    broken(
      value,
      (line) => line < 2,
      (line) => line.replace(/^(\d+),(\d+),(.*)$/, (_, position) => (Number(position) % 2 ? "1,2,[3" : "4],[5,6,7")),
    ),
  "its first line": whole((text) => text.replace("{", "{{")),
  "its stream": whole((text) => text.replace(/"base":\d+/, '"base":"x"')),
  "all of it: a text": whole(() => "not a row"),
  "all of it: nothing": whole(() => null),
  "all of it: a number": whole(() => 7),
  "all of it: a list": whole(() => [1, 2, 3]),
  "all of it: storage can't read it": whole(() => UNREADABLE),
};

const damagedValue = (value: unknown): unknown => (value === UNREADABLE ? { shared: new SharedArrayBuffer(4) } : value);

/** The rows of a kind, and what they hold. */
async function rowsOf(stub: Stub, kind: string): Promise<[string, unknown][]> {
  const rows = await inside(stub, (_, __, state) => outboxRows(state));
  return [...rows].filter(([key]) => key.startsWith(`\u{10FFFF}outbox/${kind}`));
}

async function isKept(stub: Stub, key: string, kept: unknown): Promise<void> {
  const read = inside(stub, (_, __, state) => native(state).get(key));
  if (kept === UNREADABLE) await expect(read).rejects.toThrow();
  else expect(await read).toEqual(kept);
}

/** An object whose events are its own. */
function listening(backend: Backend): Stub {
  const told: OutboxEvent[] = [];
  const stub = boxWith(backend, { onEvent: (event) => void told.push(event) });
  eventsOf.set(stub.id.toString(), told);
  return stub;
}

const eventsOf = new Map<string, OutboxEvent[]>();

/** What was reported of a row. */
const reports = ({ id }: Stub, key: string): unknown[] =>
  (eventsOf.get(id.toString()) ?? []).filter((event) => event.type === "unreadable" && event.row === key);

/** How an outbox comes by rows of a kind, none of which is handed over before it is resumed. */
interface Place {
  readonly kind: string;
  readonly keys: readonly (string | undefined)[];
  readonly dead: boolean;
}

const PLACES: Record<string, Place> = {
  "a segment": { kind: "s", keys: [undefined], dead: false },
  "the header": { kind: "h", keys: [undefined], dead: false },
  "a redriven message's row, among others of the same time": { kind: "t", keys: [undefined], dead: true },
  "a row of an ordering key's lane": { kind: "k", keys: ["a", "ž😀\ue000"], dead: true },
};

const COUNT = 60;

/** Messages from 1 to `COUNT`, each number its own only content, in such rows. */
async function filled(backend: Backend, { keys, dead }: Place): Promise<Stub> {
  const stub = listening(backend);
  const stage = stageOf(stub);
  await inside(stub, (_, outbox) => outbox.pause());
  await inside(stub, (_, outbox) =>
    Promise.all(
      numbers(COUNT).map((n) => {
        const key = keys[n % keys.length];
        return outbox.send(n, key === undefined ? {} : { key });
      }),
    ),
  );
  if (!dead) return stub;
  stage.rest = (messages, delivery) => {
    for (const { id } of messages) delivery.reject(id, "not wanted");
  };
  await inside(stub, (_, outbox) => outbox.resume());
  await eventually(async () => (await statsOf(stub)).dead === COUNT);
  stage.rest = () => {};
  await inside(stub, (_, outbox) => outbox.pause());
  await inside(stub, (_, outbox) => outbox.redrive());
  stage.calls.length = 0;
  return stub;
}

onBothBackends("a damaged row", (backend) => {
  describe.each(Object.entries(PLACES))("%s", (_, place) => {
    it.each(some(4, Object.entries(DAMAGES)))("%s", async (_, damage) => {
      const first = await filled(backend, place);
      const rows = (await rowsOf(first, place.kind)).filter(([, value]) => String(value).includes("\n"));
      const [key, value] = rows[Math.floor(rows.length / 2)] ?? expect.fail("there is no such row");
      // A row of one message has no line beside the first.
      if (damage(value).lost.length === 0) return;
      const { value: bad, kept: rest, lost } = damage(value);
      // A header is left as it is, and the next one has another key. A segment is never written again.
      const kept = place.kind === "h" || place.kind === "s" ? bad : rest;
      await inside(first, (_, __, state) => native(state).put(key, damagedValue(bad)));
      let stub = await crash(first);

      await resumed(stub);
      const expected = numbers(COUNT).filter((n) => !lost.includes(n));
      const got = sent(stub).map(({ msg }) => msg as number);
      expect([...got].sort((a, b) => a - b)).toEqual(expected);
      for (const name of place.keys)
        expect(got.filter((n) => place.keys[n % place.keys.length] === name)).toEqual(
          expected.filter((n) => place.keys[n % place.keys.length] === name),
        );
      await isKept(stub, key, kept);
      expect(reports(stub, key)).toHaveLength(1);

      // It stays like this: also in another life, in which it is not looked at any more or reported once again.
      stub = await crash(stub);
      await inside(stub, (_, outbox) => outbox.send("one more", place.keys[0] === undefined ? {} : { key: place.keys[0] }));
      await idle(stub);
      expect(sent(stub).map(({ msg }) => msg)).toEqual([...got, "one more"]);
      await isKept(stub, key, kept);
      expect(reports(stub, key).length).toBeLessThanOrEqual(2);
      expect(await inside(stub, (_, __, state) => native(state).getAlarm())).toBeNull();
    });
  });

  it("of a lane's state lets the lane go on", async () => {
    for (const bad of [UNREADABLE, "x", null, -1, [], [null], {}]) {
      const first = await filled(backend, PLACES["a row of an ordering key's lane"] as Place);
      const [key = ""] = (await rowsOf(first, "l")).at(-1) ?? [];
      await inside(first, (_, __, state) => native(state).put(key, damagedValue(bad)));
      const stub = await crash(first);
      await resumed(stub);
      const got = sent(stub).map(({ msg }) => msg as number);
      for (const odd of [0, 1]) expect(got.filter((n) => n % 2 === odd)).toEqual(numbers(COUNT).filter((n) => n % 2 === odd));
      expect(reports(stub, key)).toHaveLength(1);
    }
  }, 60_000);

  it.each(some(4, Object.entries(DAMAGES)))(
    "of a dead letter keeps no other from being listed, redriven or discarded: %s",
    async (_, damage) => {
      const stub = listening(backend);
      const stage = stageOf(stub);
      stage.rest = (messages, delivery) => {
        for (const { id } of messages) delivery.reject(id, "not wanted");
      };
      await inside(stub, (_, outbox) => Promise.all(numbers(30).map((n) => outbox.send(n))));
      await eventually(async () => (await statsOf(stub)).dead === 30);
      stage.rest = () => {};
      stage.calls.length = 0;
      const rows = await rowsOf(stub, "d");
      for (const at of [0, 1, 9, 29]) {
        const [key, value] = rows[at] ?? expect.fail("there is no such row");
        await inside(stub, (_, __, state) => native(state).put(key, damagedValue(damage(value).value)));
      }
      const whole = damage(rows[0]?.[1]).lost.length > 0;
      const left = whole ? numbers(30).filter((n) => ![1, 2, 10, 30].includes(n)) : numbers(30);
      expect(await deadOf(stub)).toEqual(left);
      const letters = await listed(stub, "dead");
      expect(await inside(stub, (_, outbox) => outbox.discard(letters.slice(0, 3).map(({ id }) => id)))).toBe(3);
      expect(await inside(stub, (_, outbox) => outbox.redrive())).toBe(left.length - 3);
      await idle(stub);
      expect(callsOf(stub).flat()).toEqual(left.slice(3));
      if (whole) for (const at of [0, 1, 9, 29]) expect(reports(stub, rows[at]?.[0] ?? "")).toHaveLength(1);
    },
  );

  it("where all are damaged, in every place, leaves the outbox to the next message", async () => {
    for (const place of Object.values(PLACES)) {
      const first = await filled(backend, place);
      const rows = (await rowsOf(first, place.kind)).map(([key]) => key);
      await inside(first, async (_, __, state) => {
        for (const key of rows) await native(state).put(key, damagedValue(UNREADABLE));
      });
      const stub = await crash(first);
      await resumed(stub);
      const before = sent(stub).length;
      await inside(stub, (_, outbox) => outbox.send("one more"));
      await eventually(() => sent(stub).length > before);
      expect(sent(stub).at(-1)?.msg).toBe("one more");
      expect(waiting(await statsOf(stub))).toBe(0);
      for (const key of rows) await isKept(stub, key, UNREADABLE);
    }
  }, 60_000);

  it("that is a structure, because JSON does not hold its messages, keeps those of its messages that can be read", async () => {
    const first = boxWith(backend, {});
    await inside(first, (_, outbox) => outbox.pause());
    await inside(first, (_, outbox) => Promise.all(numbers(40).map((n) => outbox.send(n % 3 ? { n } : { n, at: new Date(n) }))));
    const lost: number[] = [];
    await inside(first, async (_, __, state) => {
      for (const [key, row] of await outboxRows(state)) {
        const { messages, ...head } = row as { messages: unknown[] };
        const bad = messages.map((message, i) => ([undefined, null, 7, [1, 2], [1, 2, 3, 4, 5]] as unknown[])[i] ?? message);
        for (const [i, message] of messages.entries()) {
          if (bad[i] === message) continue;
          lost.push((typeof message === "string" ? JSON.parse(`[${message}]`) : message)[2].n);
        }
        if (key.includes("/s")) await native(state).put(key, { ...head, messages: bad });
        else lost.splice(-5);
      }
    });
    const stub = await crash(first);
    await resumed(stub);
    expect(lost.length).toBeGreaterThan(0);
    expect(sent(stub).map(({ msg }) => (msg as { n: number }).n)).toEqual(numbers(40).filter((n) => !lost.includes(n)));
  });
});
