/** The fleet: which objects are in trouble, worst first, and actions over all that match the filter. */

import type { FleetBatch, FleetEntry, FleetPage, FleetTrouble } from "../fleet-api.ts";
import { button, type Child, h } from "./dom.ts";
import { count, counted, short, time } from "./format.ts";
import { badge } from "./object-view.ts";
import { addressOf, may, state } from "./state.ts";

const TROUBLES: Record<FleetTrouble, string> = { dead: "dead letters", breaker: "backing off", stuck: "stuck", paused: "paused" };
const KINDS: Record<FleetTrouble, "bad" | "warn" | "still"> = { dead: "bad", breaker: "warn", stuck: "bad", paused: "still" };

/** What is shown while no object is chosen. */
export function homeView(): HTMLElement {
  if (!state.start) return h("main", {}, state.problem === null && h("p", { class: "empty" }, "Loading …"));
  if (!state.start.fleet) {
    return h(
      "main",
      { class: "home" },
      h("h1", {}, "Which object?"),
      h("p", {}, "Choose a namespace and enter the name or the id of an object to see its outbox."),
      h(
        "p",
        { class: "empty" },
        "Workers can't list Durable Objects. With the option fleet, objects report trouble, and this page lists them.",
      ),
    );
  }
  const { fleet } = state;
  return h(
    "main",
    {},
    h(
      "header",
      { class: "object" },
      h(
        "div",
        {},
        h("h1", {}, "In trouble"),
        h("p", { class: "id" }, fleet ? `${counted(fleet.total, "destination")} of objects, worst first` : "Loading …"),
      ),
      fleet && fleet.total > 0 && h("div", { class: "actions" }, ...batchActions(fleet)),
    ),
    filters(fleet),
    ...state.batches.filter(isCurrent).slice(0, MOST_BATCHES).map(progress),
    fleet && entries(fleet),
  );
}

function batchActions({ total, troubles }: FleetPage): Child[] {
  const { trouble } = state.filter;
  const ask = (label: string, action: string, kind = ""): HTMLElement => button(label, "ask-batch", { "data-action": action, class: kind });
  return [
    may("redrive") && (troubles.dead ?? 0) > 0 && ask("Redrive all dead letters", "redrive", "primary"),
    may("flush") && trouble !== "paused" && ask("Flush all", "flush"),
    may("resume") && trouble === "paused" && total > 0 && ask("Resume all", "resume"),
  ];
}

function filters(fleet: FleetPage | null): HTMLElement {
  const { filter, start } = state;
  const option = (value: string, label: string): HTMLElement => h("option", { value }, label);
  const troubles = (Object.keys(TROUBLES) as FleetTrouble[]).map((each) => {
    const number = fleet?.troubles[each];
    return option(each, number === undefined ? TROUBLES[each] : `${TROUBLES[each]} (${count(number)})`);
  });
  const destinations = [...new Set([...(fleet?.destinations ?? []), ...(filter.destination ? [filter.destination] : [])])];
  return h(
    "form",
    { class: "filters", "data-do": "filter", role: "search", "aria-label": "Filter" },
    h(
      "label",
      { class: "field" },
      "Search",
      h("input", { name: "search", type: "search", maxlength: 256, "data-value": filter.search, placeholder: "Name or id" }),
    ),
    h(
      "label",
      { class: "field" },
      "Trouble",
      h("select", { name: "trouble", "data-value": filter.trouble }, option("", "any"), ...troubles),
    ),
    h(
      "label",
      { class: "field" },
      "Destination",
      h(
        "select",
        { name: "destination", "data-value": filter.destination },
        option("", "any"),
        ...destinations.map((each) => option(each, short(each, 40))),
      ),
    ),
    h(
      "label",
      { class: "field" },
      "Namespace",
      h(
        "select",
        { name: "namespace", "data-value": filter.namespace },
        option("", "any"),
        ...(start?.namespaces ?? []).map((each) => option(each, short(each, 40))),
      ),
    ),
    h("button", { type: "submit" }, "Filter"),
  );
}

/** So many batches are shown, and so long those that have ended, in milliseconds. */
const MOST_BATCHES = 5;
const ENDED_MS = 900_000;

function isCurrent({ state, endedAt, startedAt }: FleetBatch): boolean {
  return state !== "done" || Date.now() - (endedAt ?? startedAt) < ENDED_MS;
}

/** How an action over many objects is doing. */
function progress(batch: FleetBatch): HTMLElement {
  const { id, action, total, done, failed, messages, error } = batch;
  const about = [
    `${count(done)} of ${counted(total, "destination")}`,
    counted(messages, "message"),
    failed > 0 && `${count(failed)} failed`,
  ];
  return h(
    "div",
    { class: "batch", role: "group", "data-key": id, "aria-label": `Batch ${short(id, 40)}: ${action}` },
    h(
      "div",
      {},
      h("b", {}, `${action[0]?.toUpperCase()}${action.slice(1)}`),
      " ",
      badge(batch.state, batch.state === "done" ? "good" : "info"),
    ),
    h("progress", { max: Math.max(1, total), value: done, "aria-label": "Progress" }),
    h("p", {}, about.filter(Boolean).join(" · "), " · began ", time(batch.startedAt, "ago")),
    error !== undefined && h("p", { class: "why" }, short(error, 200)),
    batch.state === "running" && may(action) && button("Stop", "batch-stop", { "data-id": id }),
    batch.state === "stopped" && may(action) && button("Go on", "batch-resume", { "data-id": id }),
  );
}

const COLUMNS = ["Object", "Destination", "Trouble", "Dead", "Waiting", "Since", "Reported"];

function isNumber(column: string): boolean {
  return column === "Dead" || column === "Waiting";
}

function entries({ entries, next }: FleetPage): HTMLElement {
  if (entries.length === 0) return h("p", { class: "empty" }, state.pages.length > 0 ? "Nothing more." : "Nothing is in trouble.");
  return h(
    "section",
    { "aria-label": "Objects in trouble" },
    h(
      "table",
      { role: "table", class: "cards" },
      h(
        "thead",
        { role: "rowgroup" },
        h(
          "tr",
          { role: "row" },
          ...COLUMNS.map((name) => h("th", { scope: "col", role: "columnheader", class: isNumber(name) ? "number" : null }, name)),
        ),
      ),
      h("tbody", { role: "rowgroup" }, ...entries.map(row)),
    ),
    (next !== undefined || state.pages.length > 0) &&
      h(
        "nav",
        { class: "pager", "aria-label": "Pages" },
        button("Previous", "previous", { disabled: state.pages.length === 0 }),
        h("span", {}, `Page ${state.pages.length + 1}`),
        button("Next", "next", { disabled: next === undefined }),
      ),
  );
}

function row(entry: FleetEntry): HTMLElement {
  const { namespace, id, name, destination, troubles, dead, waiting, since, reportedAt, error } = entry;
  const object = name === undefined ? { namespace, id } : { namespace, name };
  const tab = dead > 0 ? "dead" : "pending";
  const cells: Record<string, Child[]> = {
    Destination: [short(destination, 40)],
    Trouble: [
      ...troubles.map((each) => badge(TROUBLES[each], KINDS[each])),
      error !== undefined && h("p", { class: "why", title: short(error, 500) }, short(error, 120)),
    ],
    Dead: [count(dead)],
    Waiting: [count(waiting)],
    Since: [time(since, "ago")],
    Reported: [time(reportedAt, "ago")],
  };
  return h(
    "tr",
    { role: "row", "data-key": `${namespace} ${id} ${destination}` },
    h(
      "th",
      { scope: "row", role: "rowheader" },
      h(
        "a",
        { href: addressOf({ object, destination, tab }) },
        name === undefined ? h("span", { class: "mono" }, short(id, 14)) : short(name, 40),
      ),
      h("small", { class: "types" }, short(namespace, 40)),
    ),
    ...Object.entries(cells).map(([label, content]) =>
      h("td", { role: "cell", "data-label": label, class: isNumber(label) ? "number" : null }, ...content),
    ),
  );
}
