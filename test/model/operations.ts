/** Storage operations as data, the lists of them that the conformance suite runs on the model and on the real runtime, and what performs them. */

/** What a closure does with what it has done. */
type End = "return" | "throw" | "rollback";

export type Operation =
  | readonly ["put", key: string, value: unknown]
  | readonly ["put all", entries: Record<string, unknown>]
  | readonly ["get", key: string]
  | readonly ["get all", keys: string[]]
  | readonly ["delete", key: string]
  | readonly ["delete all", keys: string[]]
  | readonly ["list", range?: DurableObjectListOptions]
  | readonly ["deleteAll"]
  | readonly ["sync"]
  /** In milliseconds from the beginning of the list. */
  | readonly ["set alarm", ms: number]
  | readonly ["get alarm"]
  | readonly ["delete alarm"]
  /** What stands inside goes through `txn`, but for `outside`, which goes through `ctx.storage`. */
  | readonly ["transaction", inside: readonly Operation[], end: End]
  | readonly ["transactionSync", inside: readonly Operation[], end: End]
  | readonly ["outside", operation: Operation]
  | readonly ["kv put", key: string, value: unknown]
  | readonly ["kv get", key: string]
  | readonly ["kv delete", key: string]
  | readonly ["kv list", range?: DurableObjectListOptions]
  /** Calls them in one turn, and then waits for all. */
  | readonly ["at once", operations: readonly Operation[]];

/** One life of the object: what it does, and how it ends. */
export interface Chapter {
  readonly does: readonly Operation[];
  /** `abort`: in the turn in which the last operation is called. `sync`: once everything is durable, then the next life. */
  readonly ends?: "abort" | "sync";
}

export interface Fact {
  readonly title: string;
  readonly chapters: readonly Chapter[];
  /** Only for this backend. */
  readonly only?: "sqlite" | "kv";
  /** What production does and a local runtime doesn't: held on the model alone, against these results of its one chapter. */
  readonly production?: readonly unknown[];
}

type Txn = DurableObjectTransaction;

/** Performs operations and gives what each gave, as plain data: an error is its class's name. */
export async function perform(
  storage: DurableObjectStorage,
  operations: readonly Operation[],
  base: number,
  txn?: Txn,
): Promise<unknown[]> {
  const results: unknown[] = [];
  for (const operation of operations) results.push(await begin(storage, operation, base, txn));
  return results;
}

/** Calls an operation in this turn. Never rejects. */
export function begin(storage: DurableObjectStorage, operation: Operation, base: number, txn?: Txn): Promise<unknown> {
  try {
    return Promise.resolve(call(storage, operation, base, txn)).then(plain, nameOf);
  } catch (error) {
    return Promise.resolve(nameOf(error));
  }
}

function call(storage: DurableObjectStorage, operation: Operation, base: number, txn?: Txn): unknown {
  const at = txn ?? storage;
  const [kind, first, second] = operation as readonly [Operation[0], ...unknown[]];
  switch (kind) {
    case "put":
      return at.put(first as string, second);
    case "put all":
      return at.put(first as Record<string, unknown>);
    case "get":
      return at.get(first as string);
    case "get all":
      return at.get(first as string[]);
    case "delete":
      return at.delete(first as string);
    case "delete all":
      return at.delete(first as string[]);
    case "list":
      return at.list(first as DurableObjectListOptions | undefined);
    case "deleteAll":
      return storage.deleteAll();
    case "sync":
      return storage.sync();
    case "set alarm":
      return at.setAlarm(base + (first as number));
    case "get alarm":
      return at.getAlarm().then((time) => time && time - base);
    case "delete alarm":
      return at.deleteAlarm();
    case "outside":
      return begin(storage, first as Operation, base);
    case "kv put":
      return storage.kv.put(first as string, second);
    case "kv get":
      return storage.kv.get(first as string);
    case "kv delete":
      return storage.kv.delete(first as string);
    case "kv list":
      return new Map(storage.kv.list(first as DurableObjectListOptions | undefined));
    case "at once":
      return Promise.all((first as Operation[]).map((operation) => begin(storage, operation, base, txn)));
    case "transaction":
      return storage.transaction(async (txn) => {
        const results = await perform(storage, first as Operation[], base, txn);
        if (second === "throw") throw new Error("the closure's own");
        if (second === "rollback") {
          txn.rollback();
          results.push(await begin(storage, ["put", "late", 1], base, txn));
        }
        return results;
      });
    case "transactionSync":
      return storage.transactionSync(() => {
        const results = (first as Operation[]).map((operation) => {
          try {
            return plain(call(storage, operation, base));
          } catch (error) {
            return nameOf(error);
          }
        });
        if (second === "throw") throw new Error("the closure's own");
        return results;
      });
  }
}

function plain(value: unknown): unknown {
  if (value === undefined) return null;
  if (value instanceof Map) return [...value].map(([key, value]) => [key, plain(value)]);
  if (value instanceof Date) return `date ${value.getTime()}`;
  return typeof value === "string" && value.length > 100 ? `${value.length} characters` : value;
}

function nameOf(error: unknown): string {
  return (error as Error).name;
}
