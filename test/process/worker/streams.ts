/** Streams of the Durable Streams protocol: the package reads them, and the least that a client must write is written here. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxLogMessage, type OutboxManager, type OutboxTailOptions, withTransactionalOutbox } from "../../../src/index.ts";
import { relayLog, serveLog, withLogRelay } from "../../../src/log-http/index.ts";

interface Env {
  readonly SQLITE: DurableObjectNamespace<StreamBase>;
  readonly KV: DurableObjectNamespace<StreamBase>;
  readonly OUTBOX_MANAGER: OutboxManager;
}

const SAFE = { "X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin" };

class StreamBase extends DurableObject<Env> {
  destinations = {};
  /** How many follow the log at the moment. */
  #tails = 0;

  override async fetch(request: Request): Promise<Response> {
    const contentType = await this.ctx.storage.get<string>("contentType");
    if (request.method === "PUT") return this.#create(request, contentType);
    if (contentType === undefined) return answer(404);
    if (request.method === "POST") return this.#append(request, contentType);
    if (request.method === "DELETE") {
      await this.ctx.storage.deleteAll();
      return answer(204);
    }
    if (request.method === "PATCH") return new Response(String(this.#tails));
    return this.#served(request, contentType);
  }

  async *#tail(options?: OutboxTailOptions): AsyncGenerator<OutboxLogMessage, void, undefined> {
    this.#tails++;
    try {
      yield* this.env.OUTBOX_MANAGER.tail(options);
    } finally {
      this.#tails--;
    }
  }

  #served(request: Request, contentType: string): Promise<Response> {
    const options = { longPollSeconds: 1, sseSeconds: 3600 };
    const { OUTBOX_MANAGER: outbox } = this.env;
    const source = { read: outbox.read.bind(outbox), tail: (options?: OutboxTailOptions) => this.#tail(options) };
    return serveLog(request, { source, authorize: () => true, contentType, ...options });
  }

  async #create(request: Request, known: string | undefined): Promise<Response> {
    const contentType = request.headers.get("Content-Type") ?? "application/octet-stream";
    if (known !== undefined)
      return answer(known.toLowerCase() === contentType.toLowerCase() ? 200 : 409, await this.#place(request, known));
    const messages = messagesIn(new Uint8Array(await request.arrayBuffer()), contentType);
    if (!messages) return answer(400);
    await this.ctx.storage.put("contentType", contentType);
    for (const message of messages) await this.env.OUTBOX_MANAGER.send(message);
    return answer(201, { Location: request.url, ...(await this.#place(request, contentType)) });
  }

  async #append(request: Request, contentType: string): Promise<Response> {
    const given = request.headers.get("Content-Type");
    if (given === null) return answer(400);
    if (mediaTypeOf(given) !== mediaTypeOf(contentType)) return answer(409);
    const messages = messagesIn(new Uint8Array(await request.arrayBuffer()), contentType);
    if (!messages || messages.length === 0) return answer(400);
    try {
      await Promise.all(messages.map((message) => this.env.OUTBOX_MANAGER.send(message)));
    } catch (error) {
      return answer((error as { code?: string }).code === "too_large" ? 413 : 500);
    }
    return answer(204, await this.#place(request, contentType));
  }

  async #place(request: Request, contentType: string): Promise<Record<string, string>> {
    const { headers } = await this.#served(new Request(request.url, { method: "HEAD" }), contentType);
    return { "Content-Type": contentType, "Stream-Next-Offset": headers.get("Stream-Next-Offset") ?? "" };
  }
}

/** What a body holds: one message of bytes, or all that stand in a list of JSON. `undefined` where it is none. */
function messagesIn(body: Uint8Array, contentType: string): unknown[] | undefined {
  if (body.length === 0) return [];
  if (mediaTypeOf(contentType) !== "application/json") return [body];
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(body));
    return Array.isArray(value) ? value : [value];
  } catch {
    return undefined;
  }
}

function mediaTypeOf(contentType: string): string {
  return (contentType.split(";")[0] ?? "").trim().toLowerCase();
}

function answer(status: number, headers: Record<string, string> = {}): Response {
  return new Response(null, { status, headers: { ...SAFE, ...headers } });
}

export class SqliteStream extends withLogRelay(withTransactionalOutbox(StreamBase, { retain: "all" })) {}
export class KvStream extends withTransactionalOutbox(StreamBase, { retain: "all" }) {}

export default {
  fetch(request: Request, env: Env): Promise<Response> {
    const [, backend = "", ...path] = new URL(request.url).pathname.split("/");
    const stub = (backend === "kv" ? env.KV : env.SQLITE).getByName(`${backend}/${path.join("/")}`);
    return backend === "relayed" ? relayLog(request, stub, { longPollSeconds: 1 }) : stub.fetch(request);
  },
};
