/** Logs to read: this package's, and one that is written by hand on SQL. Nothing is delivered, and every tenth message is of another type. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxManager, withTransactionalOutbox } from "../../src/index.ts";
import { type Destination, type JobName, MATCHING, PAGE, type ReadingName } from "../words.ts";
import { type Contestant, type Env, KEY, type Message, message, state, Work } from "./work.ts";

const READINGS: readonly string[] = ["forward", "backward", "forwardSome", "backwardSome"] satisfies ReadingName[];
const WANTED = "order_paid";

type Logged = Omit<Message, "type"> & { readonly type: string };

function typed(n: number): Logged {
  return { ...message(n), type: n % MATCHING === 0 ? WANTED : "order_created" };
}

/** Reads pages until there are no more. @throws Error when it was not so many messages. */
async function readAll(expected: number, page: () => Promise<{ found: number; isLast: boolean }>): Promise<undefined> {
  let read = 0;
  for (let isLast = false; !isLast; ) {
    const next = await page();
    read += next.found;
    ({ isLast } = next);
  }
  if (read !== expected) throw new Error(`Expected ${expected} messages in the log, read ${read}.`);
}

class BareLog extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<Logged> }> implements Contestant {
  readonly destinations = {};
  readonly #work = new Work(this.ctx, this.env, { one: (n) => this.env.OUTBOX_MANAGER.put(KEY, state(n), typed(n)) });

  async job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    if (name === "arrivals") return this.env.OUTBOX_MANAGER.tailStream();
    return READINGS.includes(name) ? this.#read(name as ReadingName, count) : this.#work.job(name, count, to);
  }

  #read(name: ReadingName, count: number): Promise<undefined> {
    const direction = name.startsWith("forward") ? "forward" : "backward";
    const types = name.endsWith("Some") ? { types: [WANTED] } : {};
    let from: number | undefined;
    return readAll(count, async () => {
      const page = await this.env.OUTBOX_MANAGER.read({ direction, limit: PAGE, ...types, ...(from !== undefined && { from }) });
      from = page.next;
      return { found: page.messages.length, isLast: page.upToDate };
    });
  }
}

export const OursLog: typeof BareLog = withTransactionalOutbox(class extends BareLog {}, { retain: "all" });

/** A table of messages, with their types in a column that has no index: an index costs one more row a message. */
export class HandLog extends DurableObject<Env> implements Contestant {
  readonly #sql = this.ctx.storage.sql;
  readonly #work = new Work(this.ctx, this.env, { one: (n) => this.put(KEY, state(n), typed(n)) });

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql.exec("CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID");
    this.#sql.exec("CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, msg TEXT NOT NULL)");
  }

  async put<T>(key: string, value: T, msg: Logged): Promise<void> {
    this.#sql.exec("INSERT OR REPLACE INTO state VALUES (?, ?)", key, JSON.stringify(value));
    this.#sql.exec("INSERT INTO log (type, msg) VALUES (?, ?)", msg.type, JSON.stringify(msg));
  }

  async job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    return READINGS.includes(name) ? this.#read(name as ReadingName, count) : this.#work.job(name, count, to);
  }

  #read(name: ReadingName, count: number): Promise<undefined> {
    const isForward = name.startsWith("forward");
    const where = `${isForward ? "id > ?" : "id < ?"}${name.endsWith("Some") ? ` AND type = '${WANTED}'` : ""}`;
    const query = `SELECT id, msg FROM log WHERE ${where} ORDER BY id ${isForward ? "ASC" : "DESC"} LIMIT ${PAGE}`;
    let last = isForward ? 0 : Number.MAX_SAFE_INTEGER;
    return readAll(count, async () => {
      const messages = this.#sql
        .exec<{ id: number; msg: string }>(query, last)
        .toArray()
        .map(({ id, msg }) => ({ id, msg: JSON.parse(msg) as Logged }));
      last = messages.at(-1)?.id ?? last;
      return { found: messages.length, isLast: messages.length < PAGE };
    });
  }
}
