/** What the page shows at the moment. The address says where it is, so that it can be sent to a colleague. */

import type { FleetBatch, FleetPage } from "../fleet-api.ts";
import type { InspectorAction, InspectorDestination, InspectorOverview, LogAnswer, MessagesAnswer, StartAnswer } from "../wire.ts";
import type { ObjectName, Problem } from "./api.ts";

export type Tab = "pending" | "delayed" | "dead" | "log";
export const TABS: readonly Tab[] = ["pending", "delayed", "dead", "log"];

export interface State {
  start: StartAnswer | null;
  /** The object that is looked at: `null` shows the fleet, or how to find an object. */
  object: ObjectName | null;
  destination: string | null;
  tab: Tab;
  /** How the fleet is filtered. */
  filter: { search: string; namespace: string; destination: string; trouble: string };
  /** Where the pages before this one began; the last is where this one begins. */
  pages: string[];
  overview: InspectorOverview | null;
  messages: MessagesAnswer | null;
  log: LogAnswer | null;
  fleet: FleetPage | null;
  batches: FleetBatch[];
  /** The ids of messages that are ticked. */
  selected: Set<string>;
  problem: Problem | null;
  isLive: boolean;
}

export const state: State = {
  start: null,
  object: null,
  destination: null,
  tab: "pending",
  filter: { search: "", namespace: "", destination: "", trouble: "" },
  pages: [],
  overview: null,
  messages: null,
  log: null,
  fleet: null,
  batches: [],
  selected: new Set(),
  problem: null,
  isLive: true,
};

/** Reads the address. */
export function readAddress(): void {
  const query = new URLSearchParams(location.hash.slice(1));
  const namespace = query.get("namespace");
  const name = query.get("name");
  const id = query.get("id");
  state.object = namespace && (id || name) ? { namespace, ...(id ? { id } : { name: name ?? "" }) } : null;
  state.destination = query.get("destination");
  const tab = query.get("tab") as Tab;
  state.tab = TABS.includes(tab) ? tab : "pending";
  if (!state.object) {
    for (const each of Object.keys(state.filter) as (keyof State["filter"])[]) state.filter[each] = query.get(each) ?? "";
  }
  state.pages = [];
  state.selected = new Set();
}

/** Puts it there. */
export function addressOf(change: Partial<Pick<State, "object" | "destination" | "tab" | "filter">>): string {
  const { object, destination, tab, filter } = { ...state, ...change };
  const query = new URLSearchParams();
  const set = (name: string, value: string | null | undefined): void => void (value && query.set(name, value));
  if (object) {
    for (const name of ["namespace", "name", "id"] as const) set(name, object[name]);
    set("destination", destination);
    if (tab !== "pending") set("tab", tab);
  } else for (const [name, value] of Object.entries(filter)) set(name, value);
  return `#${query}`;
}

/** Whether the viewer may do this. */
export function may(action: InspectorAction): boolean {
  return state.start?.actions.includes(action) === true;
}

/** The destination whose messages are shown: the chosen one, or the one that is worst off. */
export function chosen(overview: InspectorOverview | null = state.overview): InspectorDestination | undefined {
  const all = overview?.destinations ?? [];
  return all.find(({ name }) => name === state.destination) ?? [...all].sort((a, b) => trouble(b) - trouble(a))[0];
}

function trouble({ dead, breaker, pending, delayed, blocked }: InspectorDestination): number {
  return dead * 1e9 + (breaker === "open" ? 1e8 : 0) + pending + delayed + blocked;
}
