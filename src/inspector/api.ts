/** The JSON API behind the page: finds objects, asks them, and shows what they answer. */

import { kindOf, textOf } from "../api/errors.js";
import { known } from "../api/known.js";
import type { InspectorAnswer, InspectorQuestion } from "./calls.js";
import { commandOf, questionOf } from "./calls.js";
import type { Fleet, FleetAction, FleetBatchRequest, FleetFilter, FleetTrouble } from "./fleet-api.js";
import { checkRight, Refusal } from "./guard.js";
import { LIST_LIMIT, MESSAGE_LIMIT, type Redact, show } from "./show.js";
import type { InspectorAction, LogAnswer, MessagesAnswer, StartAnswer } from "./wire.js";

/** A namespace, as far as the inspector uses it. */
export interface InspectorNamespace {
  idFromName(name: string): DurableObjectId;
  idFromString(id: string): DurableObjectId;
  get(id: DurableObjectId): { inspectOutbox(question: InspectorQuestion): PromiseLike<unknown> };
}

export interface Api {
  readonly namespaces: Readonly<Record<string, InspectorNamespace>>;
  readonly fleet: Fleet | undefined;
  readonly redact: Redact | undefined;
}

/** The longest body: a thousand ids. */
const MOST_BODY = 600_000;
const FLEET_ACTIONS: readonly string[] = ["redrive", "flush", "pause", "resume"] satisfies FleetAction[];
const TROUBLES: readonly string[] = ["dead", "breaker", "stuck", "paused"] satisfies FleetTrouble[];
/** The statuses of what an object answers that is no answer. */
const STATUS = { invalid: 400, gone: 409, no_outbox: 501, failed: 500 } as const;

/** What may be asked with `?api=`, and by which method. */
const ROUTES = {
  start: ["GET", start],
  object: ["GET", object],
  messages: ["GET", messages],
  message: ["GET", message],
  log: ["GET", log],
  act: ["POST", act],
  fleet: ["GET", fleetPage],
  batches: ["GET", batches],
  batch: ["POST", startBatch],
  stop: ["POST", stopOrResume("stop")],
  resume: ["POST", stopOrResume("resume")],
} as const;

/** One request. */
interface Asked {
  readonly api: Api;
  readonly actions: ReadonlySet<InspectorAction>;
  readonly request: Request;
  readonly query: URLSearchParams;
}

/** Answers a request whose sender may look. @throws Refusal */
export async function answerApi(
  api: Api,
  actions: ReadonlySet<InspectorAction>,
  request: Request,
  query: URLSearchParams,
): Promise<unknown> {
  const name = query.get("api") ?? "";
  if (!Object.hasOwn(ROUTES, name)) throw new Refusal(404, "not_found", "There is no such part of the API.");
  const [method, route] = ROUTES[name as keyof typeof ROUTES];
  if (request.method !== method) throw new Refusal(405, "method", `Use ${method}.`, { Allow: method });
  return await route({ api, actions, request, query });
}

function start({ api, actions }: Asked): StartAnswer {
  return { namespaces: Object.keys(api.namespaces), actions: [...actions], fleet: api.fleet !== undefined };
}

async function object(asked: Asked): Promise<unknown> {
  const answer = await ask(asked, { read: "overview" });
  return "overview" in answer && answer.overview;
}

async function messages(asked: Asked): Promise<MessagesAnswer> {
  const { api, query } = asked;
  const answer = await ask(asked, questionFrom(query, "messages", ["state", "destination", "after"], ["limit"]));
  const { messages: all, more } = ("page" in answer && answer.page) as { messages: never[]; more: boolean };
  return { messages: all.map((each) => show(each, namespaceOf(query), api.redact, LIST_LIMIT)), more };
}

async function message(asked: Asked): Promise<unknown> {
  const { api, query } = asked;
  // `id` is that of the object.
  const id = query.get("message");
  const answer = await ask(
    asked,
    checked(() => questionOf({ read: "message", destination: query.get("destination"), id })),
  );
  const found = "message" in answer ? answer.message : null;
  if (!found) throw new Refusal(404, "gone", "This message is not here any more: it was delivered, cancelled or discarded.");
  return show(found, namespaceOf(query), api.redact, MESSAGE_LIMIT);
}

async function log(asked: Asked): Promise<LogAnswer> {
  const { api, query } = asked;
  const answer = await ask(asked, questionFrom(query, "log", ["direction"], ["from", "limit"]));
  if (!("log" in answer)) throw new Refusal(500, "failed", "The object has answered something else.");
  const { messages: all, next, upToDate, earliest } = answer.log;
  const isFull = query.get("full") === "1";
  const shown = all.map((each) => show(each, namespaceOf(query), api.redact, isFull ? MESSAGE_LIMIT : LIST_LIMIT));
  return { messages: shown, earliest, ...(!upToDate && { next }) };
}

async function act(asked: Asked): Promise<unknown> {
  const given = await bodyOf(asked.request);
  const command = checked(() => commandOf(given));
  checkRight(asked.actions, command.action);
  const answer = await ask(asked, command);
  return "outcome" in answer && answer.outcome;
}

async function fleetPage(asked: Asked): Promise<unknown> {
  const { query } = asked;
  const filter = filterOf(Object.fromEntries(query));
  const after = query.get("after");
  const limit = Number(query.get("limit") ?? 50);
  if (!(limit >= 1 && limit <= 200) || limit % 1) throw new Refusal(400, "invalid", "Expected `limit` to be a whole number from 1 to 200.");
  return await answered(fleetOf(asked).list({ ...filter, limit, ...(after && { after }) }));
}

function batches(asked: Asked): Promise<unknown> {
  return answered(fleetOf(asked).batches());
}

async function startBatch(asked: Asked): Promise<unknown> {
  const fleet = fleetOf(asked);
  const given = Object(await bodyOf(asked.request)) as Partial<Record<keyof FleetBatchRequest, unknown>>;
  // A name that is wrong must not make it a batch over everything.
  const { action, filter, objectsPerSecond } = checked(() => known("body", given, ["action", "filter", "objectsPerSecond"]));
  if (!FLEET_ACTIONS.includes(action as string)) {
    throw new Refusal(400, "invalid", `Expected \`action\` to be one of ${FLEET_ACTIONS.join(", ")}.`);
  }
  checkRight(asked.actions, action as FleetAction);
  const isRate = objectsPerSecond === undefined || (typeof objectsPerSecond === "number" && objectsPerSecond > 0);
  if (!isRate) throw new Refusal(400, "invalid", "Expected `objectsPerSecond` to be a number above 0.");
  if (kindOf(filter) !== "Object") throw new Refusal(400, "invalid", "Expected `filter` to be an object: `{}` matches everything.");
  const names = checked(() => known("filter", filter as Record<string, unknown>, ["search", "namespace", "destination", "trouble"]));
  const request = { action: action as FleetAction, filter: filterOf(names) };
  return await answered(
    fleet.start({ ...request, ...(objectsPerSecond !== undefined && { objectsPerSecond: objectsPerSecond as number }) }),
  );
}

/** The right to do what a batch does includes the right to stop it and to resume it. */
function stopOrResume(what: "stop" | "resume"): (asked: Asked) => Promise<unknown> {
  return async (asked) => {
    const fleet = fleetOf(asked);
    const { id } = Object(await bodyOf(asked.request)) as { id?: unknown };
    const batch = (await answered(fleet.batches())).find((each) => each.id === id);
    if (!batch) throw new Refusal(404, "gone", "There is no such batch any more.");
    checkRight(asked.actions, batch.action);
    return await answered(fleet[what](batch.id));
  };
}

/** Asks the object that the query names. @throws Refusal where it has no answer. */
async function ask({ api, query }: Asked, question: InspectorQuestion): Promise<Extract<InspectorAnswer, { ok: true }>> {
  const stub = stubOf(api, query);
  let answer: InspectorAnswer;
  try {
    answer = (await stub.inspectOutbox(question)) as InspectorAnswer;
  } catch (error) {
    const text = textOf(error);
    if (!/does not implement .*"inspectOutbox"/.test(text)) throw new Refusal(500, "failed", `The object could not be asked: ${text}`);
    throw new Refusal(501, "not_inspected", "The class of this object can't be inspected: wrap it with withInspector().");
  }
  if (!answer.ok) throw new Refusal(STATUS[answer.code], answer.code, answer.error);
  return answer;
}

function namespaceOf(query: URLSearchParams): string {
  return query.get("namespace") ?? "";
}

function stubOf({ namespaces }: Api, query: URLSearchParams): ReturnType<InspectorNamespace["get"]> {
  const namespace = Object.hasOwn(namespaces, namespaceOf(query)) ? namespaces[namespaceOf(query)] : undefined;
  if (!namespace) throw new Refusal(404, "namespace", `The inspector has the namespaces ${Object.keys(namespaces).join(", ")}.`);
  const id = query.get("id");
  const name = query.get("name");
  if (!id === !name) throw new Refusal(400, "invalid", "Say which object: either its name or its id.");
  try {
    return namespace.get(id ? namespace.idFromString(id) : namespace.idFromName(name ?? ""));
  } catch (error) {
    throw new Refusal(400, "invalid", `This is no object of ${namespaceOf(query)}: ${textOf(error)}`);
  }
}

function questionFrom(query: URLSearchParams, read: string, texts: readonly string[], numbers: readonly string[]): InspectorQuestion {
  const given: Record<string, unknown> = { read };
  for (const name of texts) given[name] = query.get(name) ?? undefined;
  for (const name of numbers) given[name] = query.has(name) ? Number(query.get(name)) : undefined;
  return checked(() => questionOf(given));
}

function checked<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    throw new Refusal(400, "invalid", textOf(error));
  }
}

async function bodyOf(request: Request): Promise<unknown> {
  const text = await request.text();
  if (text.length > MOST_BODY) throw new Refusal(413, "too_large", `The body has more than ${MOST_BODY} characters.`);
  try {
    return JSON.parse(text);
  } catch {
    throw new Refusal(400, "invalid", "The body is not JSON.");
  }
}

/** What a fleet answers. What it rejects with is for the person who looks at the page. @throws Refusal */
async function answered<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof TypeError) throw new Refusal(400, "invalid", textOf(error));
    throw new Refusal(500, "failed", `The fleet could not be asked: ${textOf(error)}`);
  }
}

function fleetOf({ api }: Asked): Fleet {
  if (!api.fleet) throw new Refusal(404, "no_fleet", "This inspector has no fleet: see its option `fleet`.");
  return api.fleet;
}

function filterOf({ search, namespace, destination, trouble }: Record<string, unknown>): FleetFilter {
  for (const [name, value] of Object.entries({ search, namespace, destination })) {
    if (value === undefined || (typeof value === "string" && value.length <= 256)) continue;
    throw new Refusal(400, "invalid", `Expected \`${name}\` to be a string of at most 256 characters.`);
  }
  if (trouble !== undefined && trouble !== "" && !TROUBLES.includes(trouble as string)) {
    throw new Refusal(400, "invalid", `Expected \`trouble\` to be one of ${TROUBLES.join(", ")}.`);
  }
  const given = Object.entries({ search, namespace, destination, trouble }).filter(([, value]) => value !== undefined && value !== "");
  return Object.fromEntries(given) as FleetFilter;
}
