/** The JSON API, as the page calls it. */

import type { FleetBatch, FleetBatchRequest, FleetPage } from "../fleet-api.ts";
import type {
  ErrorAnswer,
  InspectorCommand,
  InspectorOutcome,
  InspectorOverview,
  LogAnswer,
  MessagesAnswer,
  ShownMessage,
  StartAnswer,
} from "../wire.ts";

/** What the API answers with a status from 400 on, or that it could not be reached. */
export class Problem extends Error {
  readonly code: string;
  readonly status: number;
  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Which object. */
export interface ObjectName {
  readonly namespace: string;
  readonly name?: string;
  readonly id?: string;
}

type Query = Readonly<Record<string, string | number | undefined>>;

/** The page's own query stays: what lets someone in may be in it. */
function address(query: Query): string {
  const all = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(query)) {
    all.delete(name);
    if (value !== undefined && value !== "") all.set(name, String(value));
  }
  return `${location.pathname}?${all}`;
}

async function call<T>(query: Query, body?: unknown): Promise<T> {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response: Response;
  try {
    response = await fetch(address(query), { cache: "no-store", credentials: "same-origin", ...(body !== undefined && post) });
  } catch (error) {
    throw new Problem(0, "unreachable", `The inspector can't be reached: ${String((error as Error).message)}`);
  }
  const answer = (await response.json().catch(() => null)) as (T & Partial<ErrorAnswer>) | null;
  if (response.ok && answer !== null) return answer;
  const { code = "failed", message = `The inspector answered with status ${response.status}.` } = answer?.error ?? {};
  throw new Problem(response.status, code, message);
}

const of = ({ namespace, name, id }: ObjectName): Query => ({ namespace, name, id });

export const start = (): Promise<StartAnswer> => call({ api: "start" });
export const overview = (object: ObjectName): Promise<InspectorOverview> => call({ api: "object", ...of(object) });
export const messages = (object: ObjectName, query: Query): Promise<MessagesAnswer> => call({ api: "messages", ...of(object), ...query });
export const message = (object: ObjectName, destination: string, id: string): Promise<ShownMessage> =>
  call({ api: "message", ...of(object), destination, message: id });
export const log = (object: ObjectName, query: Query): Promise<LogAnswer> => call({ api: "log", ...of(object), ...query });
export const act = (object: ObjectName, command: InspectorCommand): Promise<InspectorOutcome> =>
  call({ api: "act", ...of(object) }, command);
export const fleet = (query: Query): Promise<FleetPage> => call({ api: "fleet", ...query });
export const batches = (): Promise<FleetBatch[]> => call({ api: "batches" });
export const batch = (request: FleetBatchRequest): Promise<FleetBatch> => call({ api: "batch" }, request);
export const stopBatch = (id: string): Promise<FleetBatch> => call({ api: "stop" }, { id });
export const resumeBatch = (id: string): Promise<FleetBatch> => call({ api: "resume" }, { id });
