/** One object: its numbers, and its destinations. */

import type { InspectorDestination, InspectorOverview } from "../wire.ts";
import type { Child } from "./dom.ts";
import { button, h } from "./dom.ts";
import { bytes, count, counted, duration, short, time } from "./format.ts";
import { messagesView } from "./messages-view.ts";
import { addressOf, chosen, may, state } from "./state.ts";

/** How a destination is doing, in a word. */
export function badges(each: InspectorDestination): HTMLElement[] {
  const all: HTMLElement[] = [];
  if (each.missing) all.push(badge("missing", "bad"));
  if (each.paused) all.push(badge("paused", "still"));
  if (each.breaker === "open") all.push(badge(`backing off · ${counted(each.failures, "failure")}`, "warn"));
  if (each.dead > 0) all.push(badge("dead letters", "bad"));
  if (each.leased !== undefined) all.push(badge(`pull · ${count(each.leased)} leased`, "info"));
  return all.length > 0 ? all : [badge("healthy", "good")];
}

export function badge(text: string, kind: "good" | "warn" | "bad" | "still" | "info"): HTMLElement {
  return h("span", { class: `badge ${kind}` }, text);
}

export function objectView(): HTMLElement {
  const { overview, object } = state;
  const name = object?.name ?? overview?.name;
  const id = overview?.id ?? object?.id ?? "";
  const head = h(
    "header",
    { class: "object" },
    h(
      "div",
      {},
      h("p", { class: "crumb" }, short(object?.namespace ?? "", 60)),
      h("h1", {}, name === undefined ? `Object ${short(id, 12)}` : short(name, 120)),
      h("p", { class: "id mono", title: id }, short(id, 64)),
    ),
    overview && h("div", { class: "actions" }, ...objectActions(overview)),
  );
  if (!overview) return h("main", {}, head, state.problem === null && h("p", { class: "empty" }, "Loading …"));
  return h("main", {}, head, tiles(overview), destinations(overview), messagesView());
}

function objectActions({ destinations }: InspectorOverview): Child[] {
  const dead = destinations.reduce((sum, each) => sum + each.dead, 0);
  const isPaused = destinations.length > 0 && destinations.every(({ paused }) => paused);
  return [
    may("flush") && button("Flush", "ask", { "data-action": "flush" }),
    isPaused
      ? may("resume") && button("Resume all", "ask", { "data-action": "resume" })
      : may("pause") && button("Pause all", "ask", { "data-action": "pause" }),
    may("redrive") &&
      dead > 0 &&
      button(
        "",
        "ask",
        { "data-action": "redrive", class: "primary" },
        dead === 1 ? "Redrive 1 dead letter" : `Redrive all ${counted(dead, "dead letter")}`,
      ),
  ];
}

function tiles({ destinations, position, log, alarm, now }: InspectorOverview): HTMLElement {
  const sum = (name: "pending" | "delayed" | "blocked" | "dead"): number => destinations.reduce((all, each) => all + each[name], 0);
  const oldest = Math.max(0, ...destinations.map(({ oldestAgeSeconds }) => oldestAgeSeconds));
  const attempts = destinations.flatMap(({ nextAttemptAt }) => nextAttemptAt ?? []);
  const next = attempts.length > 0 ? Math.min(...attempts) : null;
  const dead = sum("dead");
  return h(
    "dl",
    { class: "tiles" },
    tile(
      "Waiting",
      count(sum("pending") + sum("delayed") + sum("blocked")),
      `${count(sum("pending"))} due, ${count(sum("delayed"))} later`,
    ),
    tile("Dead letters", count(dead), dead > 0 ? "need a decision" : "none", dead > 0),
    tile("Oldest waiting", oldest > 0 ? time(now - oldest * 1000, "for") : "–", oldest > 0 ? "not delivered yet" : "nothing waits"),
    tile(
      "Next attempt",
      time(next, "in"),
      alarm.own === null ? "object has no own alarm" : h("span", {}, "own alarm ", time(alarm.own, "in")),
    ),
    tile("Put so far", count(position), log ? `log ${count(log.first)}–${count(log.last)}, ${bytes(log.bytes)}` : "log not retained"),
  );
}

function tile(name: string, value: Child, note: Child, isBad = false): HTMLElement {
  return h(
    "div",
    { class: isBad ? "tile bad" : "tile", "data-key": name },
    h("dt", {}, name),
    h("dd", {}, h("strong", {}, value), h("small", {}, note)),
  );
}

const COLUMNS = ["Destination", "State", "Position", "Pending", "Delayed", "Blocked", "Dead", "Oldest", "Next attempt", "Actions"];

function destinations({ destinations }: InspectorOverview): HTMLElement {
  const heads = COLUMNS.map((name) => h("th", { scope: "col", role: "columnheader", class: isNumber(name) ? "number" : null }, name));
  return h(
    "section",
    { "aria-labelledby": "destinations" },
    h("h2", { id: "destinations" }, "Destinations"),
    destinations.length === 0
      ? h("p", { class: "empty" }, "The class has no destinations.")
      : h(
          "table",
          { role: "table", class: "cards" },
          h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads)),
          h("tbody", { role: "rowgroup" }, ...destinations.map(row)),
        ),
  );
}

function isNumber(column: string): boolean {
  return ["Position", "Pending", "Delayed", "Blocked", "Dead"].includes(column);
}

function row(each: InspectorDestination): HTMLElement {
  const isChosen = chosen()?.name === each.name;
  const cells: Record<string, Child[]> = {
    State: [...badges(each), each.error !== undefined && h("p", { class: "why", title: short(each.error, 500) }, short(each.error, 120))],
    Position: [count(each.position)],
    Pending: [count(each.pending)],
    Delayed: [count(each.delayed), each.scheduled > 0 && h("small", {}, ` ${count(each.scheduled)} scheduled`)],
    Blocked: [count(each.blocked), each.held > 0 && h("small", {}, ` ${counted(each.held, "key")} held`)],
    Dead: [each.dead > 0 ? h("strong", { class: "dead" }, count(each.dead)) : "0"],
    Oldest: [each.oldestAgeSeconds > 0 ? duration(each.oldestAgeSeconds) : "–"],
    "Next attempt": [time(each.nextAttemptAt, "in")],
    Actions: [h("div", { class: "actions" }, ...actions(each))],
  };
  const link = h(
    "a",
    { href: addressOf({ destination: each.name, tab: state.tab }), "aria-current": isChosen ? "true" : null },
    short(each.name, 40),
  );
  const types = each.types && h("small", { class: "types" }, short(each.types.join(", "), 60));
  return h(
    "tr",
    { role: "row", "data-key": each.name, class: isChosen ? "chosen" : null },
    h("th", { scope: "row", role: "rowheader" }, link, types),
    ...Object.entries(cells).map(([name, content]) =>
      h("td", { role: "cell", "data-label": name, class: isNumber(name) ? "number" : null }, ...content),
    ),
  );
}

function actions(each: InspectorDestination): Child[] {
  const { name } = each;
  const waits = each.pending + each.delayed + each.blocked > 0;
  const ask = (label: string, action: string, extra: Record<string, string> = {}): HTMLElement =>
    button(label, "ask", { "data-action": action, "data-destination": name, "aria-label": `${label} ${short(name, 40)}`, ...extra });
  return [
    may("flush") && waits && !each.missing && each.leased === undefined && ask("Flush", "flush"),
    each.paused ? may("resume") && ask("Resume", "resume") : may("pause") && ask("Pause", "pause"),
    may("redrive") && each.dead > 0 && !each.missing && ask("Redrive all", "redrive"),
    may("drop") && each.missing && ask("Drop", "drop", { class: "danger" }),
  ];
}
