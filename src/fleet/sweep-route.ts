/** The route of a sweep: wakes objects by their ids, for `npx do-transactional-outbox sweep`, and lists those that the registry knows. */

import { expected, textOf } from "../api/errors.js";
import { known } from "../api/known.js";
import { CLOCK } from "../destinations/clock.js";
import type { Fleet } from "../inspector/fleet-api.js";
import type { FleetObject, FleetWoken } from "./with-fleet-reports.js";

/** A namespace of objects that can be woken. */
export interface SweptNamespace {
  idFromName(name: string): DurableObjectId;
  idFromString(id: string): DurableObjectId;
  get(id: DurableObjectId): { wakeOutbox(): PromiseLike<unknown> };
}

/** Options of `sweepRoute`. */
export interface SweepRouteOptions {
  /** The namespaces whose objects may be woken, by name. Their classes are wrapped with `withFleetReports`. */
  namespaces: Readonly<Record<string, SweptNamespace>>;
  /** Whether a request may wake objects: of `true` alone it may. There is no default. What it throws is refused as well. */
  authorize: (request: Request) => boolean | Promise<boolean>;
  /** Where ids may come from: `fleet(env.OUTBOX_FLEET)`. Default: from the caller alone. */
  fleet?: Fleet;
}

/** What has become of one object. */
export type Swept = { readonly id: string } & (FleetWoken | { readonly error: string });

/** The most objects of one call. */
const MOST_IDS = 100;
/** The longest name of an object, in UTF-16 units. */
const NAME_LENGTH = 1024;
/** Objects that are woken at a time: the platform lets six requests wait for their response headers at once (Workers limits page). */
const AT_ONCE = 6;
/** An object that has not answered after this, in milliseconds, counts as failed. */
const CALL_MS = 20_000;
/** No object is woken later than this after the first, in milliseconds: the command waits two minutes for its answer. */
const LAST_MS = 90_000;
/** The most bytes of a request. */
const MOST_BYTES = 2 ** 20;
const PAGE = 200;

/** A refusal, with its status. */
class Refused extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/**
 * Returns a handler of requests to mount under a path of its own, which `npx do-transactional-outbox sweep` calls: `POST …/wake` with
 * `{ namespace, ids, names }` wakes up to 100 objects, and `GET …/ids?namespace=…` lists ids from the registry.
 *
 * @throws TypeError when an option is wrong
 *
 * @example
 * const sweep = sweepRoute({ namespaces: { ORDERS: env.ORDERS }, authorize: (request) => isOperator(request), fleet: fleet(env.OUTBOX_FLEET) });
 * if (url.pathname.startsWith("/outbox-sweep/")) return sweep(request);
 */
export function sweepRoute(options: SweepRouteOptions): (request: Request) => Promise<Response> {
  const { namespaces, authorize, fleet } = known("options", options, ["namespaces", "authorize", "fleet"]);
  if (Object(namespaces) !== namespaces) throw expected("options.namespaces", "an object of namespaces", namespaces);
  if (typeof authorize !== "function") throw expected("options.authorize", "a function", authorize);
  if (fleet !== undefined && typeof fleet?.list !== "function") throw expected("options.fleet", "a fleet", fleet);

  const namespaceOf = (name: unknown): SweptNamespace => {
    const namespace = typeof name === "string" && Object.hasOwn(namespaces, name) ? namespaces[name] : undefined;
    if (!namespace)
      throw new Refused(404, `There is no namespace ${JSON.stringify(name)}: ${Object.keys(namespaces).join(", ") || "none"}.`);
    return namespace;
  };

  async function wake(request: Request): Promise<{ results: Swept[] }> {
    const { namespace, ids = [], names = [] } = (await bodyOf(request)) as { namespace?: unknown; ids?: unknown; names?: unknown };
    const objects = namespaceOf(namespace);
    const given = [...stringsIn("ids", ids), ...stringsIn("names", names)];
    if (given.length > MOST_IDS) throw new Refused(400, `One call wakes at most ${MOST_IDS} objects.`);
    const results: Swept[] = [];
    let next = 0;
    const end = CLOCK.now() + LAST_MS;
    const work = async (): Promise<void> => {
      for (let at = next++; at < given.length; at = next++) {
        const id = given[at] as string;
        const isLate = CLOCK.now() >= end;
        results[at] = isLate ? { id, error: NOT_REACHED } : await woken(objects, id, at < (ids as string[]).length);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return { results };
  }

  async function list(url: URL): Promise<{ ids: string[]; next?: string }> {
    if (!fleet) throw new Refused(404, "This route has no fleet: see its option `fleet`.");
    const namespace = url.searchParams.get("namespace") ?? "";
    namespaceOf(namespace);
    const after = url.searchParams.get("after");
    const { entries, next } = await fleet.list({ namespace, limit: PAGE, ...(after && { after }) });
    return { ids: [...new Set(entries.map(({ id }) => id))], ...(next !== undefined && { next }) };
  }

  return async (request) => {
    try {
      if (!(await isAllowed(authorize, request))) throw new Refused(401, "The request is not authorized.");
      const url = new URL(request.url);
      const action = url.pathname.split("/").at(-1);
      if (action === "wake" && request.method === "POST") return Response.json(await wake(request), HEADERS);
      if (action === "ids" && request.method === "GET") return Response.json(await list(url), HEADERS);
      throw new Refused(404, "The route has POST …/wake and GET …/ids.");
    } catch (error) {
      const status = error instanceof Refused ? error.status : error instanceof TypeError ? 400 : 500;
      return Response.json({ error: textOf(error) }, { ...HEADERS, status });
    }
  };
}

const NOT_REACHED = `Others have taken more than ${LAST_MS / 1000} s: wake it again.`;
const HEADERS = { headers: { "cache-control": "no-store" } } as const;

async function isAllowed(authorize: SweepRouteOptions["authorize"], request: Request): Promise<boolean> {
  try {
    return (await authorize(request.clone() as Request)) === true;
  } catch {
    return false;
  }
}

async function bodyOf(request: Request): Promise<object> {
  // A page of another site can't send this without being asked first.
  if (!/^application\/json\b/i.test(request.headers.get("content-type") ?? "")) throw new Refused(415, "Expected JSON.");
  const tooLarge = new Refused(413, `The request is larger than ${MOST_BYTES} bytes.`);
  if (Number(request.headers.get("content-length") ?? 0) > MOST_BYTES) throw tooLarge;
  const text = await request.text();
  // One that is sent in chunks does not say how large it is.
  if (text.length > MOST_BYTES) throw tooLarge;
  try {
    return Object(JSON.parse(text)) as object;
  } catch {
    throw new Refused(400, "The request is no JSON.");
  }
}

function stringsIn(name: string, given: unknown): string[] {
  const isList = Array.isArray(given) && given.every((each) => typeof each === "string" && each && each.length <= NAME_LENGTH);
  if (!isList) throw new Refused(400, `Expected ${name} to be a list of strings of 1 to ${NAME_LENGTH} characters.`);
  return given as string[];
}

async function woken(objects: SweptNamespace, given: string, isId: boolean): Promise<Swept> {
  let timer: number | null = null;
  try {
    const object = objects.get(isId ? objects.idFromString(given) : objects.idFromName(given)) as unknown as FleetObject;
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`The object has not answered within ${CALL_MS / 1000} s.`)), CALL_MS);
    });
    const { waiting, dead, nextAttemptAt } = await Promise.race([object.wakeOutbox(), timeout]);
    return { id: given, waiting, dead, nextAttemptAt };
  } catch (error) {
    return { id: given, error: textOf(error) };
  } finally {
    clearTimeout(timer);
  }
}
