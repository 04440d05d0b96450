/** The worker of the tests that copy and erase objects: its object also deletes all, and holds messages of every kind. */
import { KvBox as Kv, SqliteBox as Sqlite } from "./box.ts";

export { default } from "./box.ts";

/** Written once for both backends: what a subclass of a wrapped class adds. */
const operations = (Base: typeof Sqlite) =>
  class extends Base {
    objectId(): string {
      return this.ctx.id.toString();
    }

    /** One message that expires before it can be handed over, two that wait for this long, and one that is blocked behind the second. */
    hold(delaySeconds: number): Promise<unknown> {
      const { OUTBOX_MANAGER: outbox } = this.env;
      return this.ctx.blockConcurrencyWhile(() =>
        Promise.all([
          outbox.send({ n: 101, text: "#101#" }, { expiresInSeconds: 0.001 }),
          outbox.send({ n: 102, text: "#102#" }, { delaySeconds }),
          outbox.send({ n: 103, text: "#103#" }, { delaySeconds, key: "a" }),
          outbox.send({ n: 104, text: "#104#" }, { key: "a" }),
          outbox.send({ n: 105, text: "#105#" }),
        ]),
      );
    }

    redrive(): Promise<number> {
      return this.env.OUTBOX_MANAGER.redrive();
    }

    pause(): Promise<void> {
      return this.env.OUTBOX_MANAGER.pause();
    }

    resume(): Promise<void> {
      return this.env.OUTBOX_MANAGER.resume();
    }

    deleteAll(): Promise<void> {
      return this.ctx.storage.deleteAll();
    }

    last(n: number): Promise<unknown> {
      return this.env.OUTBOX_MANAGER.deleteAll({ n, text: `#${n}#` });
    }

    getAlarm(): Promise<number | null> {
      return this.ctx.storage.getAlarm();
    }

    async keys(): Promise<string[]> {
      return [...(await this.ctx.storage.list()).keys()];
    }

    /** Fills the object with state and deletes all, again and again, each time with a last message or without. */
    async fillAndDelete(first: number, count: number): Promise<void> {
      const { storage } = this.ctx;
      for (let n = first; n < first + count; n++) {
        const keys = Array.from({ length: 128 }, (_, i) => [`own:${i}`, "x".repeat(500)]);
        await storage.put(Object.fromEntries(keys));
        await storage.sync();
        await (n % 2 ? this.last(n) : this.deleteAll());
        await storage.sync();
      }
    }
  };

export class SqliteBox extends operations(Sqlite) {}
export class KvBox extends operations(Kv) {}
