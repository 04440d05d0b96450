/** The storage of one object under test: its alarms never fire by themselves, and it can be aborted before or after any of its commits. */

/** Where an object is to be aborted. */
export interface CrashPlan {
  /** The number of the commit, from 1. */
  readonly at: number;
  /** `"before"`: everything that the commit would have written is lost. `"after"`: as soon as it is durable. */
  readonly when: "before" | "after";
  /** Commits so far. */
  seen: number;
  /** The call that began the commit. */
  call: string;
  crashed: boolean;
}

interface Watched {
  readonly plan: CrashPlan | null;
}

/**
 * How much later than requested alarms are set, in milliseconds: twenty years. So they are written, committed and rolled back like any other, but only the
 * test calls them.
 */
const LATER_MS = 631_152_000_000;

type Method = (...args: unknown[]) => unknown;

/** The reason of a planned crash. */
export const CRASH = "everyCrash() has aborted the object.";

/** Wraps the methods of storage that write, before the outbox binds them. */
export function watchStorage(ctx: DurableObjectState, object: Watched): void {
  const { storage } = ctx;
  const abort = ctx.abort.bind(ctx);
  const sync = storage.sync.bind(storage);
  /** A commit has begun in this turn: what is written now joins it. */
  let begun = false;

  /** Writes that are a commit, or join the one that has begun. */
  function writing(call: string, write: () => unknown): unknown {
    const { plan } = object;
    if (!plan || plan.crashed) return write();
    const first = !begun;
    begun = true;
    queueMicrotask(() => {
      begun = false;
    });
    if (!first || ++plan.seen !== plan.at) return write();
    plan.call = call;
    const result = write();
    if (plan.when === "before") crash(plan);
    else
      sync().then(
        () => crash(plan),
        () => {},
      );
    return result;
  }

  function crash(plan: CrashPlan): void {
    if (plan.crashed) return;
    plan.crashed = true;
    abort(CRASH);
  }

  wrap(
    storage,
    ["put", "delete", "deleteAll", "deleteAlarm", "transactionSync"],
    (name, method) =>
      (...args) =>
        writing(name, () => method(...args)),
  );
  wrap(storage, ["transaction"], (_, transaction) => (...args) => {
    const [closure] = args as [(txn: DurableObjectTransaction) => Promise<unknown>];
    return transaction(async (txn: DurableObjectTransaction) => {
      alarms(txn);
      const result = await closure(txn);
      // Its commit begins when the closure has ended.
      writing("transaction", () => {});
      return result;
    });
  });
  alarms(storage);
  wrap(
    storage,
    ["setAlarm"],
    (name, method) =>
      (...args) =>
        writing(name, () => method(...args)),
  );
  for (const part of ["kv", "sql"] as const) {
    try {
      if (part === "kv")
        wrap(
          storage.kv,
          ["put", "delete"],
          (name, method) =>
            (...args) =>
              writing(`kv.${name}`, () => method(...args)),
        );
      else
        wrap(
          storage.sql,
          ["exec"],
          (_, exec) =>
            (...args) =>
              READS.test(String(args[0])) ? exec(...args) : writing("sql.exec", () => exec(...args)),
        );
    } catch {
      // A KV-backed object has neither.
    }
  }
}

const READS = /^\s*(select|explain|pragma)\b/i;

function alarms(target: DurableObjectStorage | DurableObjectTransaction): void {
  wrap(target, ["setAlarm"], (_, setAlarm) => (time, options) => setAlarm(Number(time) + LATER_MS, options));
  wrap(target, ["getAlarm"], (_, getAlarm) => async (options) => {
    const time = (await getAlarm(options)) as number | null;
    return time === null ? null : time - LATER_MS;
  });
}

function wrap(target: object, names: readonly string[], around: (name: string, method: Method) => Method): void {
  for (const name of names) {
    const method = (target as Record<string, Method | undefined>)[name]?.bind(target);
    if (method) Object.defineProperty(target, name, { value: around(name, method), writable: true, configurable: true });
  }
}

/** The platform's own alarm, past everything that is wrapped around it. */
export type NativeAlarm = Pick<DurableObjectStorage, "deleteAlarm">;

export function nativeAlarm(storage: DurableObjectStorage): NativeAlarm {
  return { deleteAlarm: storage.deleteAlarm.bind(storage) };
}
