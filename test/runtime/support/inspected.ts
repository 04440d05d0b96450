/** What the tests of the inspector share: objects, and requests as a browser sends them. */
import { runInDurableObject } from "cloudflare:test";
import { describe } from "vitest";
import type { OutboxManager } from "../../../src/index.ts";
import { type InspectorOptions, type InspectorRights, inspector } from "../../../src/inspector/index.ts";
import { polled } from "../../support/patience.ts";
import { env } from "./harness.ts";
import type { Inspected } from "./inspected-worker.ts";

type Namespace = DurableObjectNamespace<Inspected>;
type Stub = DurableObjectStub<Inspected>;

const { INSPECTED_SQLITE, INSPECTED_KV, NO_OUTBOX } = env as unknown as Record<
  "INSPECTED_SQLITE" | "INSPECTED_KV" | "NO_OUTBOX",
  Namespace
>;
export const NAMESPACES = { INSPECTED_SQLITE, INSPECTED_KV, NO_OUTBOX };
type Name = keyof typeof NAMESPACES;

/** One object, and what a person with these rights can do to it. */
export interface Desk {
  readonly stub: Stub;
  /** Runs inside the object, with its manager. */
  within<R>(body: (outbox: OutboxManager, state: DurableObjectState) => R | Promise<R>): Promise<R>;
  /** Asks, and gives the status and the answer. */
  get(api: string, query?: Record<string, string>): Promise<Answered>;
  act(command: unknown, headers?: Record<string, string>): Promise<Answered>;
  /** Waits until a fact about the object's outbox is true. */
  until(fact: (outbox: OutboxManager) => Promise<boolean>): Promise<true>;
}

export interface Answered {
  readonly status: number;
  // Tests look into it, and fail where it is something else.
  // biome-ignore lint/suspicious/noExplicitAny: what was answered is what is tested
  readonly body: any;
}

/** A request under some path, of a page of the same site. */
export function ask(query: Record<string, string>, init: RequestInit = {}): Request {
  return new Request(`https://shop.example/admin/outbox?${new URLSearchParams(query)}`, init);
}

export async function answered(response: Response): Promise<Answered> {
  return { status: response.status, body: await response.json() };
}

export const POST = { "Content-Type": "application/json", Origin: "https://shop.example", "Sec-Fetch-Site": "same-origin" };

/** A fresh object of a namespace. */
export function desk(namespace: Name, rights: InspectorRights = "all", options: Partial<InspectorOptions> = {}): Desk {
  const stub = NAMESPACES[namespace].get(NAMESPACES[namespace].newUniqueId());
  return deskOf(namespace, stub, rights, options);
}

/** The same for an object that there is, in its next life. */
export function deskOf(
  namespace: Name,
  { id }: { readonly id: DurableObjectId },
  rights: InspectorRights = "all",
  options: Partial<InspectorOptions> = {},
): Desk {
  const stub = NAMESPACES[namespace].get(id);
  const inspect = inspector({ namespaces: NAMESPACES, authorize: () => rights, ...options });
  const object = { namespace, id: id.toString() };
  const within: Desk["within"] = (body) =>
    runInDurableObject(stub, (instance, state) => body((instance as unknown as Inspected).outbox, state)) as Promise<never>;
  return {
    stub,
    within,
    get: async (api, query = {}) => answered(await inspect(ask({ api, ...object, ...query }))),
    act: async (command, headers = POST) =>
      answered(await inspect(ask({ api: "act", ...object }, { method: "POST", headers, body: JSON.stringify(command) }))),
    until: (fact) => polled(10, () => within(fact)),
  };
}

/** Ends the life of an object. Another stub finds the next. */
export async function end({ within }: Desk): Promise<void> {
  await within(async (_, state) => {
    await state.storage.sync();
    state.abort("the end that the test wants");
  }).catch(() => {});
}

/** Runs a suite on an object of each backend. */
export function onBoth(title: string, suite: (namespace: "INSPECTED_SQLITE" | "INSPECTED_KV") => void): void {
  describe.each(["INSPECTED_SQLITE", "INSPECTED_KV"] as const)(`${title} (%s)`, suite);
}
