/** After each file of tests that watch workerd from outside: files share a process, and so the modules of its harness. */
import { afterAll } from "vitest";
import { ended } from "./harness.ts";

afterAll(ended);

/**
 * A connection a request: workerd closes one that is idle for five seconds, and a busy machine sends the next request at that moment.
 * Miniflare's own requests are not concerned.
 */
const CLOSING: unique symbol = Symbol.for("fetch with a connection of its own") as never;
const { fetch: native } = globalThis as typeof globalThis & { fetch: typeof fetch & { [CLOSING]?: true } };
if (!native[CLOSING]) {
  const closing = (input: Parameters<typeof fetch>[0], init: RequestInit = {}): Promise<Response> => {
    const headers = new Headers(init.headers);
    headers.set("connection", "close");
    return native(input, { ...init, headers });
  };
  globalThis.fetch = Object.assign(closing, { [CLOSING]: true as const }) as typeof fetch;
}
