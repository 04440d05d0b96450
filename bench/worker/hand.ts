/** Hand-written outboxes, as the documentation of the platform would have you write them: thirty lines each. */
import { DurableObject } from "cloudflare:workers";
import type { Destination, JobName } from "../words.ts";
import { type Contestant, type Env, KEY, type Message, message, state, Work } from "./work.ts";

/** What one run of the alarm takes. */
const BATCH = 100;

/** With the key-value API. */
export class HandKv extends DurableObject<Env> implements Contestant {
  #last = 0;

  readonly #work = new Work(this.ctx, this.env, {
    one: (n) => this.put(KEY, state(n), message(n)),
    idle: async () => (await this.ctx.storage.list({ prefix: "outbox:", limit: 1 })).size === 0,
  });

  async put<T>(key: string, value: T, msg: Message): Promise<void> {
    const alarm = await this.ctx.storage.getAlarm();
    // Sixteen digits that grow with time and never repeat: order and identity in one.
    this.#last = Math.max(this.#last + 1, Date.now() * 1000);
    const written = this.ctx.storage.put<unknown>({ [key]: value, [`outbox:${this.#last}`]: msg });
    if (alarm === null) void this.ctx.storage.setAlarm(Date.now() + 1);
    await written;
  }

  override async alarm(): Promise<void> {
    const batch = await this.ctx.storage.list<Message>({ prefix: "outbox:", limit: BATCH });
    if (batch.size === 0) return;
    await this.sendMessages([...batch].map(([id, msg]) => ({ id, msg })));
    await this.ctx.storage.delete([...batch.keys()]);
    // One millisecond later: the platform may lose an alarm that is set for the very millisecond of the one that rings.
    if (batch.size === BATCH) await this.ctx.storage.setAlarm(Date.now() + 1);
  }

  async sendMessages(messages: { id: string; msg: Message }[]): Promise<void> {
    await this.#work.deliver(messages.map(({ msg }) => msg));
  }

  job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    return this.#work.job(name, count, to);
  }

  override async fetch(): Promise<Response> {
    return this.#work.connected();
  }
}

/** With SQL. */
export class HandSql extends DurableObject<Env> implements Contestant {
  readonly #sql = this.ctx.storage.sql;

  readonly #work = new Work(this.ctx, this.env, {
    one: (n) => this.put(KEY, state(n), message(n)),
    idle: async () => this.#sql.exec("SELECT 1 FROM outbox LIMIT 1").toArray().length === 0,
  });

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql.exec("CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID");
    this.#sql.exec("CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, msg TEXT NOT NULL)");
  }

  async put<T>(key: string, value: T, msg: Message): Promise<void> {
    const alarm = await this.ctx.storage.getAlarm();
    // No await between the two: they commit together.
    this.#sql.exec("INSERT OR REPLACE INTO state VALUES (?, ?)", key, JSON.stringify(value));
    this.#sql.exec("INSERT INTO outbox (msg) VALUES (?)", JSON.stringify(msg));
    if (alarm === null) await this.ctx.storage.setAlarm(Date.now() + 1);
  }

  override async alarm(): Promise<void> {
    const batch = this.#sql.exec<{ id: number; msg: string }>("SELECT id, msg FROM outbox ORDER BY id LIMIT ?", BATCH).toArray();
    const last = batch.at(-1);
    if (!last) return;
    await this.sendMessages(batch.map(({ id, msg }) => ({ id, msg: JSON.parse(msg) })));
    this.#sql.exec("DELETE FROM outbox WHERE id <= ?", last.id);
    if (batch.length === BATCH) await this.ctx.storage.setAlarm(Date.now() + 1);
  }

  async sendMessages(messages: { id: number; msg: Message }[]): Promise<void> {
    await this.#work.deliver(messages.map(({ msg }) => msg));
  }

  job(name: JobName, count: number, to: Destination): Promise<ReadableStream | undefined> {
    return this.#work.job(name, count, to);
  }

  override async fetch(): Promise<Response> {
    return this.#work.connected();
  }
}
