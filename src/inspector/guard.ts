/** Who may do what: asks `authorize`, and refuses what another site makes a browser send. */

import { expected } from "../api/errors.js";
import { INSPECTOR_ACTIONS, type InspectorAction } from "./wire.js";

/**
 * What someone may do: `"all"`; `"read"`, to look only; to look and to do these actions; or nothing. A `Response` is the answer, a redirect to a login, say.
 */
export type InspectorRights = "all" | "read" | readonly InspectorAction[] | Response | null;

/** A request that is not answered with what it asks for. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

/**
 * What the request's sender may do.
 *
 * @param given what `authorize` has returned
 * @throws Refusal 401 or 403 where that is nothing; TypeError where it is none of the values that it may return
 */
export function actionsOf(given: unknown, request: Request): ReadonlySet<InspectorAction> {
  if (given === null || given === undefined || given === false) {
    if (request.headers.has("Authorization")) throw new Refusal(403, "forbidden", "You may not look at this.");
    throw new Refusal(401, "unauthorized", "Only for those who may look at this.", { "WWW-Authenticate": "Bearer" });
  }
  if (given === "all") return new Set(INSPECTOR_ACTIONS);
  if (given === "read") return new Set();
  if (Array.isArray(given) && given.every((action) => INSPECTOR_ACTIONS.includes(action))) return new Set(given);
  throw expected("authorize(request)", '"all", "read", a list of actions or null', given);
}

/** @throws Refusal 403 when the action is none of them. */
export function checkRight(actions: ReadonlySet<InspectorAction>, action: InspectorAction): void {
  if (!actions.has(action)) throw new Refusal(403, "forbidden", `You may not do this: ${action}.`);
}

/**
 * Refuses what a page of another site has made a browser send, with the cookies of the person who looks at that page. Browsers say where a request comes
 * from in `Sec-Fetch-Site`, which no page can set, and older ones in `Origin`. What is no browser sends neither, and has no cookies that a page could use.
 *
 * @throws Refusal 403, or 415 for a body that a form could send
 */
export function checkSameSite(request: Request): void {
  const site = request.headers.get("Sec-Fetch-Site");
  const isWrite = request.method !== "GET";
  // Someone has typed the address, or follows a link to the page.
  const isOwn = site === "same-origin" || (!isWrite && site === "none");
  if (site !== null && !isOwn) throw new Refusal(403, "cross_site", "Another site may not ask this.");
  const origin = request.headers.get("Origin");
  if (origin !== null && site === null && origin !== new URL(request.url).origin) {
    throw new Refusal(403, "cross_site", "Another site may not ask this.");
  }
  if (!isWrite) return;
  const type = (request.headers.get("Content-Type") ?? "").split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json") throw new Refusal(415, "media_type", "Send application/json.");
}
