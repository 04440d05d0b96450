/** The worker of the poison tests: its object also tells what is dead, and puts with ordering keys. */
import { KvBox as Kv, SqliteBox as Sqlite } from "./box.ts";

export { default } from "./box.ts";

/** Written once for both backends: what a subclass of a wrapped class adds. */
const operations = (Base: typeof Sqlite) =>
  class extends Base {
    dead(): Promise<unknown> {
      return this.env.OUTBOX_MANAGER.list({ state: "dead" });
    }

    redrive(): Promise<number> {
      return this.env.OUTBOX_MANAGER.redrive();
    }

    /** Messages whose ordering keys repeat after so many, put in one turn, before any alarm can ring. */
    async putKeyed(first: number, count: number, keys: number): Promise<void> {
      const numbers = Array.from({ length: count }, (_, n) => first + n);
      await Promise.all(numbers.map((n) => this.env.OUTBOX_MANAGER.send({ n, text: `#${n}#` }, { key: `key:${n % keys}` })));
    }
  };

export class SqliteBox extends operations(Sqlite) {}
export class KvBox extends operations(Kv) {}
