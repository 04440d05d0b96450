/** Logs that are served by their objects and relayed by the worker, and written to by several at once. */
import { DurableObject } from "cloudflare:workers";
import { type OutboxManager, withTransactionalOutbox } from "../../../src/index.ts";
import { relayLog, serveLog, withLogRelay } from "../../../src/log-http/index.ts";

interface Env {
  readonly SQLITE: DurableObjectNamespace<FeedBase>;
  readonly KV: DurableObjectNamespace<FeedBase>;
  readonly OUTBOX_MANAGER: OutboxManager;
}

interface Attempt {
  readonly writer: string;
  readonly expectedSequence: number;
  readonly sequence?: number;
  readonly code?: string | undefined;
  readonly actual?: number | undefined;
}

/** How often each object was constructed. It outlives the objects, as the isolate does. */
const starts = new Map<string, number>();

class FeedBase extends DurableObject<Env> {
  destinations = {};

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    const name = ctx.id.name ?? "";
    starts.set(name, (starts.get(name) ?? 0) + 1);
  }

  put(n: number): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.send({ n });
  }

  /** State and message in one commit. */
  add(n: number): Promise<unknown> {
    return this.env.OUTBOX_MANAGER.put(`state:${String(n).padStart(9, "0")}`, n, { n });
  }

  /** The numbers whose state is stored. */
  async committed(): Promise<number[]> {
    return [...(await this.ctx.storage.list<number>({ prefix: "state:" })).values()];
  }

  /** The numbers that are read, from the first to the last. */
  async numbers(): Promise<number[]> {
    const numbers: number[] = [];
    for (let from = 1; ; ) {
      const { messages, next, upToDate } = await this.env.OUTBOX_MANAGER.read({ from, limit: 1000 });
      numbers.push(...messages.map(({ msg }) => (msg as { n: number }).n));
      if (upToDate) return numbers;
      from = next;
    }
  }

  lines(after: number): ReadableStream {
    return this.env.OUTBOX_MANAGER.tailStream({ after });
  }

  /** A write that knows the last message. Resolves to the number that it has won, or to what it has lost to. */
  async attempt(writer: string, expectedSequence: number): Promise<Attempt> {
    try {
      const { sequence } = await this.env.OUTBOX_MANAGER.send({ writer }, { expectedSequence });
      return { writer, expectedSequence, sequence };
    } catch (error) {
      const { code, actual } = error as { code?: string; actual?: number };
      return { writer, expectedSequence, code, actual };
    }
  }

  crash(): void {
    this.ctx.abort("as the test wants it");
  }

  override fetch(request: Request): Promise<Response> {
    return serveLog(request, { source: this.env.OUTBOX_MANAGER, authorize: () => true, sseSeconds: 3600 });
  }
}

export class SqliteFeed extends withLogRelay(withTransactionalOutbox(FeedBase, { retain: "all" })) {}
export class KvFeed extends withLogRelay(withTransactionalOutbox(FeedBase, { retain: "all" })) {}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    const [, backend, how, name = ""] = pathname.split("/");
    if (how === "starts") return new Response(String(starts.get(name) ?? 0));
    const stub = (backend === "sqlite" ? env.SQLITE : env.KV).getByName(name);
    if (how === "add") return Response.json(await stub.add(Number(searchParams.get("n"))));
    if (how === "committed" || how === "numbers") return Response.json(await stub[how]());
    if (how === "lines") return new Response(await stub.lines(Number(searchParams.get("after"))));
    if (how === "attempts") {
      // Two writers, each with a stub of its own, and all of it under way before the first answer.
      const stubs = [stub, (backend === "sqlite" ? env.SQLITE : env.KV).getByName(name)];
      const expected = Array.from({ length: Number(searchParams.get("n")) / 2 }, (_, i) => Math.floor(i / 5));
      const attempts = expected.flatMap((n) => stubs.map((writer, i) => writer.attempt(`writer ${i}`, n)));
      return Response.json(await Promise.all(attempts));
    }
    if (how === "crash") return new Response(String(await stub.crash().catch(String)));
    if (request.method === "POST") return Response.json(await stub.put(Number(searchParams.get("n"))));
    return how === "direct" ? stub.fetch(request) : relayLog(request, stub);
  },
};
