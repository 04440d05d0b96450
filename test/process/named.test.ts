/** Several destinations on a killed runtime: one is down, one hangs, one is poisoned, one is removed and comes back, one is new, and three are well. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { MiniflareOptions, Request as MiniflareRequest } from "miniflare";
import { Response } from "miniflare";
import { describe, expect, it } from "vitest";
import { size, some } from "../support/random.ts";
import { BACKENDS, type Backend, bundled, folder, launch, range, sleep, until } from "./harness.ts";

const ALL = ["well", "fine", "even", "down", "hanging", "poisoned", "removed"];
const POISON = 13;

type Order = "deliver" | "throw" | "hang" | { readonly reject: readonly number[] };

/** What each destination was handed, over all lives of the object, and what becomes of its calls. */
class Receivers {
  readonly calls: { readonly name: string; readonly numbers: number[]; readonly order: Order }[] = [];
  orders: Record<string, (numbers: number[]) => Order> = {};

  async take(request: MiniflareRequest): Promise<Response> {
    const { name, numbers } = (await request.json()) as { name: string; numbers: number[] };
    const order = this.orders[name]?.(numbers) ?? "deliver";
    this.calls.push({ name, numbers, order });
    return Response.json(order);
  }

  /** What a destination has taken, in the order in which it did. */
  taken(name: string): number[] {
    const rejected = ({ order }: { order: Order }): readonly number[] => (typeof order === "object" ? order.reject : []);
    return this.calls.flatMap((call) =>
      call.name === name && (call.order === "deliver" || typeof call.order === "object")
        ? call.numbers.filter((n) => !rejected(call).includes(n))
        : [],
    );
  }
}

interface Stats {
  readonly destinations: Record<string, { pending: number; delayed: number; dead: number; missing?: true }>;
}

/** The webhook: what is posted to it reaches the same receivers. */
async function webhook(receivers: Receivers): Promise<{ url: string; [Symbol.dispose]: () => void }> {
  const take = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let body = "";
    for await (const chunk of request) body += chunk;
    const { data } = JSON.parse(body) as { data: { n: number } };
    receivers.calls.push({ name: "even", numbers: [data.n], order: "deliver" });
    response.writeHead(204).end();
  };
  const server = createServer((request, response) => {
    // A kill cuts off what it is sending: that has not been posted.
    take(request, response).catch((error: { code?: string }) => expect(error.code).toBe("ECONNRESET"));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    [Symbol.dispose]: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

async function started(path: string, backend: Backend, names: string[], receivers: Receivers, timeoutSeconds = 2) {
  const hook = await webhook(receivers);
  const { miniflare, pid, url } = await launch({
    name: "named",
    modules: true,
    script: await bundled("named.ts"),
    compatibilityDate: "2026-07-01",
    durableObjectsPersist: path,
    durableObjects: {
      SQLITE: { className: "SqliteNamed", useSQLite: true },
      KV: { className: "KvNamed", useSQLite: false },
      SHELF: { className: "Shelf", useSQLite: true },
    },
    bindings: {
      WEBHOOK: hook.url,
      SECRET: `whsec_${Buffer.alloc(32, 7).toString("base64")}`,
      NAMES: names,
      TIMEOUT_SECONDS: timeoutSeconds,
    },
    serviceBindings: { RECEIVER: (request: MiniflareRequest) => receivers.take(request) },
  } as MiniflareOptions);
  return {
    kill: () => void process.kill(pid, "SIGKILL"),
    async call<R>(method: string, ...args: unknown[]): Promise<R> {
      const response = await fetch(new URL(`${backend}/${method}`, url), { method: "POST", body: JSON.stringify(args) });
      const text = await response.text();
      if (!response.ok) throw new Error(text);
      return JSON.parse(text) as R;
    },
    async [Symbol.asyncDispose]() {
      await miniflare.dispose();
      hook[Symbol.dispose]();
    },
  };
}

describe.concurrent.each(BACKENDS)("destinations that are in trouble (%s)", (backend) => {
  it("harm no other through kills: the others get everything once but for what a kill repeats, and in the end each gets what is its own", async () => {
    const path = folder();
    const receivers = new Receivers();
    receivers.orders = {
      down: () => "throw",
      hanging: () => "hang",
      poisoned: (numbers) => (numbers.includes(POISON) ? "throw" : "deliver"),
    };
    let last = 0;
    /** How many were handed to one of the healthy ones when a kill hit it. */
    const KILLS = some(2, [1, 5, 12, 25, 50, 100, 3, 8]);
    for (const [round, moment] of KILLS.entries()) {
      // The second deployment has lost one of them.
      await using world = await started(path, backend, round === 1 ? ALL.filter((name) => name !== "removed") : ALL, receivers);
      await world.call("put", last + 1, 60);
      last += 60;
      await until(() => receivers.taken("well").includes(last) && receivers.taken("fine").includes(last));
      // While one hangs, what is put is delivered to the others at once.
      await world.call("put", last + 1, 60);
      last += 60;
      await sleep(moment);
      world.kill();
    }
    const before = receivers.calls.length;
    receivers.orders = { poisoned: (numbers) => (numbers.includes(POISON) ? { reject: [POISON] } : "deliver") };
    await using world = await started(path, backend, [...ALL, "new", "late"], receivers);
    await world.call("put", last + 1, 1);
    last += 1;
    await until(async () => {
      const { destinations } = await world.call<Stats>("stats");
      return Object.values(destinations).every(({ pending, delayed }) => pending + delayed === 0);
    });
    expect(receivers.calls.length).toBeGreaterThan(before);
    for (const name of ALL) {
      const mine = range(1, last).filter((n) => (name !== "even" || n % 2 === 0) && !(name === "poisoned" && n === POISON));
      const taken = receivers.taken(name);
      expect([name, [...new Set(taken)].sort((a, b) => a - b)]).toEqual([name, mine]);
      // What comes twice was in hand at a kill: at most a batch for each.
      if (["well", "fine", "even"].includes(name)) {
        expect(taken.length - new Set(taken).size).toBeLessThanOrEqual(100 * KILLS.length);
        expect([name, [...new Set(taken)]]).toEqual([name, mine]);
      }
    }
    // What was new began with what the log still had, the same for both.
    expect(receivers.taken("new")).toContain(last);
    // But for what a slow machine has made too late, and that came again.
    const [fresh, late] = ["new", "late"].map((name) => [...new Set(receivers.taken(name))]);
    expect(fresh).toEqual(late);
    const { destinations } = await world.call<Stats>("stats");
    expect(Object.entries(destinations).filter(([, { dead }]) => dead > 0)).toEqual([["poisoned", expect.objectContaining({ dead: 1 })]]);
    await until(async () => {
      const { rows, alarm } = await world.call<{ rows: number; alarm: number | null }>("left");
      // The header, and the dead letter.
      return rows === 2 && alarm === null;
    });
  });
});

describe.concurrent.each(BACKENDS)("ten destinations of which one is far behind (%s)", (backend) => {
  /** VITE_MESSAGES: another number. 100,000 take about two minutes. */
  const COUNT = Number((import.meta as { env?: Record<string, string> }).env?.VITE_MESSAGES ?? size(2000, 10_000));
  const NAMES = range(1, 9).map((n) => `d${n}`);

  it(`give ${COUNT} messages to nine at full speed, keep them for the tenth, and leave one row once that has them too`, async () => {
    const receivers = new Receivers();
    receivers.orders = { behind: () => "throw" };
    // None of them hangs: what a busy machine makes slow must not be repeated.
    await using world = await started(folder(), backend, [...NAMES, "behind"], receivers, 600);
    for (let first = 1; first <= COUNT; first += 1000) {
      await world.call("put", first, Math.min(1000, COUNT - first + 1));
      await until(() =>
        NAMES.every((name) => receivers.calls.some((call) => call.name === name && call.numbers.includes(Math.min(first + 999, COUNT)))),
      );
    }
    const { destinations } = await world.call<Stats>("stats");
    expect(destinations.behind).toMatchObject({ pending: COUNT, dead: 0 });
    receivers.orders = {};
    await until(() => receivers.taken("behind").length >= COUNT);
    for (const name of NAMES) expect([name, receivers.taken(name)]).toEqual([name, range(1, COUNT)]);
    // While one is in trouble, a single message is tried ahead of its turn, to find out whether the head is to blame. It may be the first that arrives.
    const [tried = 0, ...others] = receivers.taken("behind");
    expect([tried, ...others]).toEqual([tried, ...range(1, COUNT).filter((n) => n !== tried)]);
    await until(async () => {
      const { rows, alarm } = await world.call<{ rows: number; alarm: number | null }>("left");
      return rows === 1 && alarm === null;
    });
  });
});
