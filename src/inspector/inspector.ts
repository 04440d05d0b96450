/** `inspector`: a page for the engineer on call, and the JSON API behind it. */

import { expected } from "../api/errors.js";
import { known } from "../api/known.js";
import { type Api, answerApi, type InspectorNamespace } from "./api.js";
import type { Fleet } from "./fleet-api.js";
import { actionsOf, checkSameSite, type InspectorRights, Refusal } from "./guard.js";
import { page } from "./html.js";
import type { Redact } from "./show.js";
import type { ErrorAnswer, InspectorAction } from "./wire.js";

export interface InspectorOptions {
  /** The namespaces whose objects can be looked at, by the name that the page shows: `{ ORDERS: env.ORDERS }`. Their classes are wrapped with `withInspector()`. */
  namespaces: Readonly<Record<string, InspectorNamespace>>;
  /**
   * What the sender of a request may do: called first, for the page and for everything that it asks. `null` refuses: with 401 where the request has no
   * `Authorization`, and 403 where it has. There is no default. It must not read the body.
   */
  authorize: (request: Request) => InspectorRights | Promise<InspectorRights>;
  /** The registry to which objects report trouble: without one the page shows objects by name or id alone. */
  fleet?: Fleet;
  /**
   * Called for each message before anything of it is shown; the page shows what it returns. What it throws, or returns that is no object, hides the message.
   * Ids are shown as they are. Default: messages are shown as they are.
   */
  redact?: Redact;
}

const OPTIONS = ["namespaces", "authorize", "fleet", "redact"];

/** What every answer has: nothing of it is kept, framed, or read by another site. */
const HEADERS = {
  "Cache-Control": "no-store",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
};

/**
 * Returns a fetch handler that serves the inspector's page and its JSON API. Mount it under any path: everything that it serves is told apart by the query
 * (`?api=…`) alone.
 *
 * @throws TypeError when an option is wrong. The handler rejects with what `authorize` throws.
 *
 * @example
 * const inspect = inspector({
 *   namespaces: { ORDERS: env.ORDERS },
 *   authorize: async (request) => ((await isOnCall(request)) ? "all" : null),
 * });
 * if (url.pathname === "/outbox") return inspect(request);
 */
export function inspector(options: InspectorOptions): (request: Request) => Promise<Response> {
  const api = apiOf(options);
  const { authorize } = options;
  return async (request) => {
    try {
      return await answer(api, authorize, request);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const body: ErrorAnswer = { error: { code: error.code, message: error.message } };
      return Response.json(body, { status: error.status, headers: { ...HEADERS, ...error.headers } });
    }
  };
}

function apiOf(options: InspectorOptions): Api {
  const { namespaces, authorize, fleet, redact } = known("options", options, OPTIONS);
  if (Object(namespaces) !== namespaces) throw expected("options.namespaces", "an object of namespaces", namespaces);
  for (const [name, each] of Object.entries(namespaces)) {
    if (typeof each?.idFromName !== "function") throw expected(`options.namespaces.${name}`, "a namespace of Durable Objects", each);
  }
  if (typeof authorize !== "function") throw expected("options.authorize", "a function: there is no default", authorize);
  if (redact !== undefined && typeof redact !== "function") throw expected("options.redact", "a function", redact);
  if (fleet !== undefined && typeof fleet?.list !== "function") throw expected("options.fleet", "a fleet", fleet);
  return { namespaces: { ...namespaces }, fleet, redact };
}

async function answer(api: Api, authorize: InspectorOptions["authorize"], request: Request): Promise<Response> {
  const given: unknown = await authorize(request);
  if (given instanceof Response) return given;
  const actions: ReadonlySet<InspectorAction> = actionsOf(given, request);
  const { searchParams } = new URL(request.url);
  if (!searchParams.has("api")) {
    if (request.method !== "GET") throw new Refusal(405, "method", "Use GET.", { Allow: "GET" });
    return page(HEADERS);
  }
  checkSameSite(request);
  return Response.json(await answerApi(api, actions, request, searchParams), { headers: HEADERS });
}
