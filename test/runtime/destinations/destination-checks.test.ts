/** Every destination of the package passes the conformance kit: on real inboxes, and against queues and endpoints that do as they are told. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { byType, type Destination, toDurableObject, toQueue, toWebhook } from "../../../src/destinations/index.ts";
import type { OutboxMessage } from "../../../src/index.ts";
import { destinationChecks } from "../../../src/testing/destination-checks.ts";
import { env } from "../support/harness.ts";
import type { RpcInbox } from "../support/inbox-worker.ts";

/** Another end that takes, refuses, is down or hangs as it is told. */
class End {
  readonly taken: string[] = [];
  down = false;
  hangs = false;
  destination!: Destination<never>;
  received = (): string[] | Promise<string[]> => this.taken;
  close = (): void => {};
}

const states = {
  down: (end: End) => {
    end.down = true;
  },
  up: (end: End) => {
    end.down = false;
  },
};
const hang = (end: End): void => {
  end.hangs = true;
};

interface Event {
  readonly id: string;
  readonly data: { readonly type?: string };
}

/** Endpoints by the first segment of their path. */
const endpoints = new Map<string, End>();
const secret = new Uint8Array(32);

/** Answers what is posted to an endpoint of this file: 400 to what is of the type `refused`, 503 while it is down. */
async function answer(input: unknown, init?: RequestInit): Promise<Response> {
  const end = endpoints.get(new URL(String(input)).pathname.split("/")[1] ?? "");
  if (!end || end.down) return new Response(null, { status: 503 });
  const events = [JSON.parse(init?.body as string)].flat() as Event[];
  await new Promise<void>((resolve, reject) => {
    init?.signal?.addEventListener("abort", () => reject(init.signal?.reason));
    if (!end.hangs) resolve();
  });
  if (events.some(({ data }) => data.type === "refused")) return new Response(null, { status: 400 });
  end.taken.push(...events.map(({ id }) => id));
  return new Response();
}

afterEach(() => vi.restoreAllMocks());

/** An endpoint, and a destination that posts to it. */
function endpointWith(destinationTo: (url: string) => Destination<never>): End {
  vi.spyOn(globalThis, "fetch").mockImplementation(answer);
  const end = new End();
  const name = crypto.randomUUID();
  endpoints.set(name, end);
  end.destination = destinationTo(`https://example.com/${name}`);
  return end;
}

/** A queue as the platform has it, as far as `toQueue` calls it. A send of it can't be called off, and has to be waited for. */
function queueEnd(): End {
  const end = new End();
  const sendBatch = async (batch: { body: { id: string } }[]) => {
    await Promise.resolve();
    if (end.down) throw new Error("Queue is overloaded.");
    end.taken.push(...batch.map(({ body }) => body.id));
  };
  end.destination = toQueue({ sendBatch } as unknown as Queue<never>);
  return end;
}

/** Real inboxes, three of them, reached through a binding that fails or hangs as it is told. */
function inboxEnd(namespace: DurableObjectNamespace<RpcInbox>): End {
  const end = new End();
  const name = crypto.randomUUID();
  const names = new Set<string>();
  const get = (id: DurableObjectId) => {
    if (end.down) return { receiveMessages: () => Promise.reject(new Error("Network connection lost.")) };
    return end.hangs ? { receiveMessages: () => new Promise(() => {}) } : namespace.get(id);
  };
  const route = ({ key, sequence }: OutboxMessage) => {
    const target = `${name} ${key ?? sequence % 3}`;
    names.add(target);
    return target;
  };
  end.destination = toDurableObject({ idFromName: (name) => namespace.idFromName(name), get }, route);
  end.received = async () => (await Promise.all([...names].map((name) => namespace.get(namespace.idFromName(name)).turns()))).flat();
  return end;
}

interface Numbered {
  readonly type: "odd" | "even";
  readonly n: number;
}

const refused = (n: number) => ({ type: "refused", n }) as never;
const bindings = env as unknown as Record<"INBOX_SQLITE" | "INBOX_KV", DurableObjectNamespace<RpcInbox>>;

const SUBJECTS: Record<string, ReturnType<typeof destinationChecks>> = {
  toQueue: destinationChecks({ make: queueEnd, ...states, refused: () => "x".repeat(130_000) as never }),
  "toDurableObject to SQLite-backed inboxes": destinationChecks({
    make: () => inboxEnd(bindings.INBOX_SQLITE),
    ...states,
    hang,
    refused: () => ({ fails: -1 }) as never,
  }),
  "toDurableObject to KV-backed inboxes": destinationChecks({
    make: () => inboxEnd(bindings.INBOX_KV),
    ...states,
    hang,
    refused: () => ({ fails: -1 }) as never,
  }),
  toWebhook: destinationChecks({ make: () => endpointWith((url) => toWebhook(url, { secret })), ...states, hang, refused }),
  "toWebhook in batches": destinationChecks({
    make: () => endpointWith((url) => toWebhook(url, { secret, mode: "batch" })),
    ...states,
    hang,
    refused,
  }),
  "toWebhook with many URLs": destinationChecks({
    make: () => endpointWith((url) => toWebhook(({ sequence }) => `${url}/${sequence % 3}`, { secret })),
    ...states,
    hang,
    refused,
  }),
  byType: destinationChecks({
    make: () =>
      endpointWith((url) =>
        byType<Numbered>({ odd: toWebhook(`${url}/odd`, { secret }), even: toWebhook(`${url}/even`, { secret, mode: "batch" }) }),
      ),
    ...states,
    hang,
    message: (n) => ({ type: n % 2 ? "odd" : "even", n }) as never,
    refused: () => ({ type: "without a route" }) as never,
  }),
};

describe.each(Object.entries(SUBJECTS))("%s", (_, checks) => {
  for (const { name, run } of checks) it(name, run);

  it("is checked in every way that its other end allows", () => {
    expect(checks.length).toBeGreaterThanOrEqual(8);
  });
});
