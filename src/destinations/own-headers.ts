/** The user's own headers of a webhook's requests, fixed or from functions. No error shows a value: it may be secret. */

import { expected } from "../api/errors.js";
import { headersOf } from "../api/headers.js";
import type { OutboxMessage } from "../api/message.js";
import { HIDDEN } from "./signature.js";

/** Headers by name. */
export type HeaderValues = Readonly<Record<string, string>>;

/** Further headers of each request: the same for all, or a function that returns those for a message. */
export type WebhookHeaders<M = unknown> = HeaderValues | ((message: OutboxMessage<M>) => HeaderValues);

/** The `authorization` header of each request, or a function that returns the one for a request to this URL. */
export type WebhookAuthorization = string | ((url: URL) => string | Promise<string>);

/** Headers that the webhook sets itself. */
const RESERVED = /^(content-type|authorization|webhook-.*)$/i;

/**
 * The headers of a message's request.
 *
 * @param batch a request holds several messages, so no single one can determine its headers
 * @throws TypeError when the option is wrong. The returned function throws an error that says what is wrong with a message's own headers.
 */
export function headersFor<M>(given: unknown, batch: boolean): (message: OutboxMessage<M>) => HeaderValues {
  if (typeof given !== "function") {
    const fixed = given === undefined ? {} : checked("options.headers", given);
    return () => fixed;
  }
  if (batch) throw expected("options.headers", 'a plain object of strings with `mode: "batch"`', given);
  return (message) => {
    let own: unknown;
    try {
      own = given(message);
    } catch {
      throw new Error("`headers` threw for this message.");
    }
    return checked("headers()", own);
  };
}

/** @throws TypeError that shows names only. */
function checked(argument: string, given: unknown): HeaderValues {
  const own = headersOf(argument, typeof given === "string" ? HIDDEN : given);
  for (const name of Object.keys(own)) if (RESERVED.test(name)) throw expected(argument, "free of headers that the webhook sets", name);
  if (!isHttp(own)) throw expected(argument, "names and values that HTTP allows", Object.keys(own).join(", "));
  return own;
}

/** The result of `authorization` for one request: the header, or what is wrong. */
export type Authorize = (url: URL, signal: AbortSignal) => Promise<{ readonly value?: string; readonly wrong?: string }>;

/** @throws TypeError when the option is wrong. */
export function authorizeBy(given: unknown): Authorize {
  if (typeof given !== "function") {
    if (given !== undefined && !isValue(given)) {
      throw expected("options.authorization", "a string that HTTP allows, or a function", typeof given === "string" ? HIDDEN : given);
    }
    const fixed = given === undefined ? {} : { value: given as string };
    return async () => fixed;
  }
  return async (url, signal) => {
    let stop = (): void => {};
    try {
      const ended = new Promise<never>((_, reject) => {
        stop = () => reject(signal.reason);
        signal.addEventListener("abort", stop);
      });
      ended.catch(() => {});
      signal.throwIfAborted();
      const value: unknown = await Promise.race([given(new URL(url)), ended]);
      return isValue(value) ? { value: value as string } : { wrong: "options.authorization returned no string that HTTP allows" };
    } catch {
      return { wrong: signal.aborted ? "options.authorization did not settle before the timeout" : "options.authorization threw" };
    } finally {
      signal.removeEventListener("abort", stop);
    }
  };
}

function isValue(value: unknown): boolean {
  return typeof value === "string" && value !== "" && isHttp({ authorization: value });
}

function isHttp(headers: Record<string, string>): boolean {
  try {
    new Headers(headers);
    return true;
  } catch {
    return false;
  }
}
