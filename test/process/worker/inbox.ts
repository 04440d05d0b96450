/** The worker of the end-to-end tests: accounts that transfer money to each other, by RPC or through a queue, and what can go wrong on the way. */
import { DurableObject } from "cloudflare:workers";
import { byType, type Destination, toDurableObject, toQueue } from "../../../src/destinations/index.ts";
import { consumeQueue, type InboxReceiver, type OutboxEnvelope, withTransactionalInbox } from "../../../src/inbox/index.ts";
import {
  type OutboxDelivery,
  type OutboxManager,
  type OutboxMessage,
  type OutboxTransaction,
  withTransactionalOutbox,
} from "../../../src/index.ts";
import type { Audit } from "../inbox-audit.ts";

type Way = "rpc" | "queue";

interface Env {
  SQLITE: DurableObjectNamespace<Account & InboxReceiver>;
  KV: DurableObjectNamespace<Account & InboxReceiver>;
  QUEUE: Queue<never>;
  WAY: Way;
  /** Nothing leaves an outbox. */
  HOLD: boolean;
  OUTBOX_MANAGER: OutboxManager<Credit>;
}

/** So much is credited to an account. Even accounts are SQLite-backed, odd ones are KV-backed. */
interface Credit {
  readonly type: "even" | "odd";
  /** The number of the transfer. */
  readonly n: number;
  readonly to: number;
  readonly amount: number;
}

/** How much went wrong on purpose in this life of the process. */
const chaos = { duplicates: 0, repeated: 0, deaths: 0 };
const died = new Set<string>();

class Account extends DurableObject<Env> {
  async open(balance: number): Promise<void> {
    if ((await this.ctx.storage.get("balance")) === undefined) await this.ctx.storage.put("balance", balance);
  }

  /** Debits this account and sends the credit, once for each number: who calls does not know whether an earlier call has come through. */
  async transfer(n: number, to: number, amount: number): Promise<void> {
    await this.env.OUTBOX_MANAGER.transaction(async (txn) => {
      if ((await txn.get(`out:${n}`)) !== undefined) return;
      await txn.put({ balance: ((await txn.get<number>("balance")) ?? 0) - amount, [`out:${n}`]: amount });
      await txn.send({ type: to % 2 ? "odd" : "even", n, to, amount }, { key: String(to) });
    });
  }

  async receiveMessage({ msg }: OutboxEnvelope<Credit>, txn: OutboxTransaction): Promise<void> {
    const { n, to, amount } = msg;
    const times = (await txn.get<number>(`in:${n}`)) ?? 0;
    await txn.put("balance", ((await txn.get<number>("balance")) ?? 0) + amount);
    // Now and then the object dies in the middle, once for each transfer in a life of the process.
    if (n % 47 === 0 && !died.has(`${to} ${n}`)) {
      died.add(`${to} ${n}`);
      chaos.deaths++;
      this.ctx.abort("the account dies");
    }
    await txn.put(`in:${n}`, times + 1);
  }

  async audit(): Promise<Audit> {
    const { pending, delayed, blocked, dead } = await this.env.OUTBOX_MANAGER.stats();
    const numbers = (rows: Map<string, number>) => [...rows].map(([key, value]) => [Number(key.split(":")[1]), value] as [number, number]);
    return {
      balance: (await this.ctx.storage.get<number>("balance")) ?? 0,
      out: numbers(await this.ctx.storage.list<number>({ prefix: "out:" })).map(([n]) => n),
      in: numbers(await this.ctx.storage.list<number>({ prefix: "in:" })),
      waiting: pending + delayed + blocked + dead,
    };
  }

  readonly #destination: Destination<Credit> =
    this.env.WAY === "queue"
      ? toQueue<Credit>(this.env.QUEUE)
      : byType<Credit>({
          even: toDurableObject<Credit>(this.env.SQLITE, ({ msg }) => String(msg.to)),
          odd: toDurableObject<Credit>(this.env.KV, ({ msg }) => String(msg.to)),
        });

  async sendMessages(messages: OutboxMessage<Credit>[], delivery: OutboxDelivery): Promise<void> {
    if (this.env.HOLD) throw new Error("The outbox is held.");
    await this.#destination(messages, delivery);
    // Now and then the sender never learns that its messages have arrived: they are sent again.
    for (const { id, attempts, msg } of messages) {
      if (attempts > 1 || msg.n % 9 > 0 || delivery.signal.aborted) continue;
      chaos.repeated++;
      const again = forgetful(delivery, id);
      await this.#destination(
        messages.filter((message) => message.id === id),
        again,
      );
    }
  }
}

/** Gives no outcome of a message that has one. */
function forgetful(delivery: OutboxDelivery, known: string): OutboxDelivery {
  const unless = (id: string, give: () => void): void => (id === known ? undefined : give());
  return {
    signal: delivery.signal,
    ack: (id) => unless(id, () => delivery.ack(id)),
    retry: (id, options) => unless(id, () => delivery.retry(id, options)),
    reject: (id, reason) => unless(id, () => delivery.reject(id, reason)),
  };
}

const OPTIONS = { retry: { minDelaySeconds: 0.05, maxDelaySeconds: 0.3, jitter: 0.5, maxAttempts: 1000 }, timeoutSeconds: 10 } as const;

export const SqliteAccount: unknown = withTransactionalInbox(withTransactionalOutbox(class extends Account {}, OPTIONS) as never);
export const KvAccount: unknown = withTransactionalOutbox(withTransactionalInbox(class extends Account {}) as never, OPTIONS);

const account = (env: Env, number: number) => (number % 2 ? env.KV : env.SQLITE).getByName(String(number));

/** Calls again, with a stub that is new: the account may just have died of a message. */
async function persistently<R>(call: () => Promise<R>, times = 10): Promise<R> {
  try {
    return await call();
  } catch (error) {
    if (times === 0) throw error;
    return persistently(call, times - 1);
  }
}

/** Calls with at most so many at a time. */
async function each<R>(count: number, call: (n: number) => Promise<R>, atOnce = 16): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const work = async () => {
    for (let n = next++; n < count; n = next++) results[n] = await call(n);
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return results;
}

export default {
  /** `/open/<accounts>/<balance>`, `/transfer` with a list of transfers, `/audit/<accounts>`, `/chaos`, `/knock/<member>`. */
  async fetch(request, env) {
    const [what, first = "", second = ""] = new URL(request.url).pathname.slice(1).split("/");
    if (what === "chaos") return Response.json(chaos);
    if (what === "open") {
      await each(Number(first), (n) => persistently(async () => account(env, n).open(Number(second))));
      return new Response();
    }
    if (what === "transfer") {
      const list = (await request.json()) as [n: number, from: number, to: number, amount: number][];
      const outcomes = await each(list.length, async (i) => {
        const [n, from, to, amount] = list[i] ?? [0, 0, 0, 0];
        return persistently(async () => account(env, from).transfer(n, to, amount)).then(
          () => true,
          () => false,
        );
      });
      return Response.json(outcomes.filter((done) => !done).length);
    }
    if (what === "audit") {
      const audits = await each(Number(first), (n) => persistently(async () => account(env, n).audit()));
      return Response.json(audits);
    }
    const stub = account(env, Number(second)) as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    const called = await (async () => stub[first]?.({}, {}))().then(
      () => "answered",
      (error: unknown) => String(error),
    );
    return Response.json(called);
  },

  async queue(batch, env) {
    await consumeQueue<Env>(batch, env, { route: ({ msg }, { SQLITE, KV }) => routed(msg as Credit, SQLITE, KV) });
    for (const { body } of batch.messages) {
      const envelope = body as OutboxEnvelope<Credit>;
      if (envelope.msg.n % 4 > 0 || envelope.headers?.["test-duplicate"]) continue;
      chaos.duplicates++;
      await env.QUEUE.send({ ...envelope, headers: { ...envelope.headers, "test-duplicate": "1" } } as never);
    }
  },
} satisfies ExportedHandler<Env>;

function routed({ to }: Credit, sqlite: Env["SQLITE"], kv: Env["KV"]): DurableObjectStub<Account & InboxReceiver> {
  return (to % 2 ? kv : sqlite).getByName(String(to));
}
