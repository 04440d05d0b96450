/** Wrong versions of the core: each is one mistake that outboxes are known to make, and names the tests that must find it. */

/** The layers of tests: the model in Node, and the runtime. */
export type Layer = "model" | "pool";

export interface Mutation {
  readonly name: string;
  /** Below `src/`. */
  readonly file: string;
  /** Stands there exactly once. */
  readonly find: string;
  readonly replace: string;
  /** Where it is looked for, in this order: a layer, and what is given to vitest. The first that fails has found it. */
  readonly found: readonly (readonly [layer: Layer, ...args: string[]])[];
}

const crashes = (title: string) => ["model", "test/model/crash.test.ts", "-t", title] as const;
const stories = ["model", "test/model/commands.test.ts"] as const;
const pool = (file: string) => ["pool", `test/pool/${file}.test.ts`] as const;

export const MUTATIONS: readonly Mutation[] = [
  {
    name: "acknowledges before it sends",
    file: "delivery.ts",
    find: "const failed = batch.handed.length > 0 ? await hand(batch.handed) : null;",
    replace: `const gone = batch.handed;
      for (const entry of gone) entry.fate = "gone";
      await settle(batch);
      batch = { entries: [], handed: [], rows: [], lanes: [] };
      const failed = gone.length > 0 ? await hand(gone) : null;`,
    found: [crashes("a put"), stories],
  },
  {
    name: "arms the alarm after an await",
    file: "put.ts",
    find: "const armed = first || (memory.trouble.retryAt === 0 && alarm.stands(now)) ? undefined : wake();",
    replace: `await written;
      const armed = first || (memory.trouble.retryAt === 0 && alarm.stands(now)) ? undefined : wake();`,
    found: [crashes("a put"), stories],
  },
  {
    name: "writes state and message in two puts",
    file: "put.ts",
    find: "const written = keys.length > FEW_KEYS ? store.put(entries, options) : store.native.put(entries, options);",
    replace: `const own = Object.fromEntries(keys.map((key) => [key, entries[key]]));
      await store.put(own, options);
      const written = store.put(entries, options);`,
    found: [crashes("a put"), stories],
  },
  {
    name: "sets an alarm at the millisecond of the one that fires",
    file: "alarm.ts",
    find: "const time = Math.max(Math.min(wake, due), now + 1, floor + 1);",
    replace: "const time = Math.max(Math.min(wake, due), floor);",
    found: [stories, crashes("own alarm"), pool("wakeup")],
  },
  {
    name: "clears the whole queue instead of what was sent",
    file: "queue.ts",
    find: "const rest = newest.length > 0 ? left(newest, null) : newest;",
    replace: "const rest: readonly StoredMessage[] = batch.handed.length > 0 ? [] : newest;",
    found: [crashes("a put during a send"), stories],
  },
  {
    name: "lets two runs overlap",
    file: "delivery.ts",
    find: "active ??= run(died)",
    replace: "active = run(died)",
    found: [stories, pool("flush"), pool("immediate")],
  },
  {
    name: "calls sendMessages with nothing to send",
    file: "delivery.ts",
    find: "const failed = batch.handed.length > 0 ? await hand(batch.handed) : null;",
    replace: "const failed = await hand(batch.handed);",
    found: [stories, pool("delivery")],
  },
  {
    name: "repairs nothing when it starts",
    file: "core.ts",
    find: "await alarm.load(delivery.isDue() ? Date.now() : delivery.nextWake());",
    replace: "await alarm.load(Number.POSITIVE_INFINITY);",
    found: [crashes("an alarm that the platform has lost"), pool("wakeup")],
  },
  {
    name: "backs off without a cap",
    file: "retry.ts",
    find: "Math.min(policy.maxDelaySeconds, exponential * (1 + policy.jitter * random))",
    replace: "(exponential * (1 + policy.jitter * random))",
    found: [pool("breaker"), ["pool", "test/pool/clock.test.ts"], stories],
  },
  {
    name: "counts attempts while the destination is down",
    file: "delivery.ts",
    find: "let judged = head.more.alone === true || (before.suspects === 1 && before.proven);",
    replace: "let judged = true;",
    found: [stories, pool("breaker"), pool("poison")],
  },
  {
    name: "lets a message overtake one of its key that waits for a retry",
    file: "take.ts",
    find: "const blocked = key !== undefined && (memory.lanes.has(key) || waiting.has(key));",
    replace: "const blocked = false;",
    found: [stories, pool("ordering")],
  },
  {
    name: "shares the env of all objects",
    file: "wrapper.ts",
    find: "super(ctx, { ...env, [chosen.binding]: core.manager }, ...rest);",
    replace: "super(ctx, Object.assign(env, { [chosen.binding]: core.manager }), ...rest);",
    found: [pool("wrapping"), pool("itself")],
  },
  {
    name: "drops the object's own alarm while messages wait",
    file: "alarm.ts",
    find: "    memory.own = own;\n    memory.running",
    replace: "    memory.own = memory.wake < NEVER ? null : own;\n    memory.running",
    found: [stories, crashes("own alarm"), pool("alarm")],
  },
  {
    name: "lets the object's deleteAlarm reach the platform",
    file: "alarm.ts",
    find: "deleteAlarm: async (options) => setOwn(null, () => store.native.deleteAlarm(options)),",
    replace: "deleteAlarm: async (options) => store.native.deleteAlarm(options),",
    found: [stories, crashes("own alarm"), pool("alarm")],
  },
  {
    name: "moves a dead letter in two writes",
    file: "queue.ts",
    find: "      copied = null;\n      return store.write(rows);",
    replace: `      copied = null;
      const dead = Object.entries(rows).filter(([key]) => kindOf(key) === "d");
      for (const [key] of dead) delete rows[key];
      return store.write(rows).then(() => store.write(Object.fromEntries(dead)));`,
    found: [crashes("dead letter"), crashes("reject"), stories],
  },
  {
    name: "uses numbers again after a restart",
    file: "load.ts",
    find: "memory.newest = linesOf(messages);",
    replace: `memory.newest = linesOf(messages);
  if (messages.length === 0 && memory.first > memory.last) memory.position = memory.base;`,
    found: [stories, pool("identity")],
  },
  {
    name: "lists without a limit",
    file: "store.ts",
    find: "return await store.list({ start, end, limit });",
    replace: "return await store.list({ start, end });",
    found: [pool("bounded-lists")],
  },
  {
    name: "shows its rows to the object",
    file: "guard.ts",
    find: "{ value: end.startsWith(RESERVED) ? RESERVED : end }",
    replace: "{ value: given }",
    found: [stories, pool("reserved-range")],
  },
  {
    name: "deletes more than 128 keys in one call",
    file: "store.ts",
    find: "const MAX_KEYS = 128;",
    replace: "const MAX_KEYS = 100_000;",
    found: [crashes("more entries than one call takes"), pool("limits-entries")],
  },
  {
    name: "forgets on rollback what memory has seen",
    file: "transaction.ts",
    find: "      Object.assign(memory, before);\n      // A batch may",
    replace: "      // A batch may",
    found: [crashes("transactions"), stories],
  },
  {
    name: "deletes messages with deleteAll()",
    file: "erase.ts",
    find: "if (keep) {",
    replace: "if (keep && Date.now() < 0) {",
    found: [crashes("deleteAll while messages wait"), stories],
  },
  {
    name: "delivers while a transaction is open",
    file: "delivery.ts",
    find: "while (store.open) await store.open;\n      const { retracted } = store;",
    replace: "const { retracted } = store;",
    found: [stories, pool("open-transaction")],
  },
  {
    name: "hands over what storage has refused",
    file: "delivery.ts",
    find: "!store.open && store.retracted === retracted",
    replace: "!store.open",
    found: [pool("ghost-window")],
  },
  {
    name: "adds to a segment that is being delivered",
    file: "store.ts",
    find: '      if (kind === "s") growing = "";\n',
    replace: "",
    found: [pool("recent")],
  },
];
