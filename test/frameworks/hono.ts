/** An object that serves its requests with a Hono app, as the framework has it and wrapped. */
import { DurableObject } from "cloudflare:workers";
import { Hono } from "hono";
import { type OutboxManager, type OutboxMessage, withTransactionalOutbox } from "../../src/index.ts";
import { deliver, note, type OutboxEnv, options } from "./stage.ts";

export class BareShop extends DurableObject<OutboxEnv> {
  readonly #app = new Hono<{ Bindings: OutboxEnv }>()
    .use(async (c, next) => {
      await next();
      c.header("served-by", "hono");
    })
    .post("/orders/:order", async (c) => {
      const order = c.req.param("order");
      const { id } = await c.env.OUTBOX_MANAGER.put(`order:${order}`, await c.req.json(), order);
      return c.json({ id }, 201);
    })
    .post("/fails/:order", async (c) => {
      await this.ctx.storage.transaction(async (txn) => {
        await txn.put("order:failed", 1);
        await c.env.OUTBOX_MANAGER.send(c.req.param("order"));
        throw new Error("the route has failed");
      });
    })
    .get("/orders/:order", async (c) => c.json((await this.ctx.storage.get(`order:${c.req.param("order")}`)) ?? null))
    .post("/alarm/:ms", async (c) => {
      const time = Date.now() + Number(c.req.param("ms"));
      await this.ctx.storage.setAlarm(time);
      return c.json({ time, read: await this.ctx.storage.getAlarm() });
    })
    .delete("/alarm", async (c) => {
      await this.ctx.storage.deleteAlarm();
      return c.json(await this.ctx.storage.getAlarm());
    })
    .delete("/", async (c) => {
      await this.ctx.storage.deleteAll();
      return c.body(null, 204);
    })
    .onError((error, c) => c.text(error.message, 500));

  get outbox(): OutboxManager {
    return this.env.OUTBOX_MANAGER;
  }

  override async fetch(request: Request): Promise<Response> {
    return this.#app.fetch(request, this.env);
  }

  override async alarm(): Promise<void> {
    await note(this, this.ctx, "alarm");
  }

  async sendMessages(messages: OutboxMessage[]): Promise<void> {
    await deliver(this, this.ctx, messages);
  }
}

export const Shop: typeof BareShop = withTransactionalOutbox(class Shop extends BareShop {}, options);
export class BareKvShop extends BareShop {}
export const KvShop: typeof BareShop = withTransactionalOutbox(class KvShop extends BareShop {}, options);
