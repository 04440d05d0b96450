/** The messages of a destination, by state, and the log. */

import type { ShownMessage } from "../wire.ts";
import type { Child } from "./dom.ts";
import { button, h } from "./dom.ts";
import { count, counted, short, shortId, time } from "./format.ts";
import { addressOf, chosen, may, state, TABS, type Tab } from "./state.ts";

const NAMES: Record<Tab, string> = { pending: "Pending", delayed: "Delayed", dead: "Dead letters", log: "Log" };
const EMPTY: Record<Tab, string> = {
  pending: "Nothing waits for its turn.",
  delayed: "Nothing waits for a time, or behind its key.",
  dead: "No dead letters.",
  log: "The log is empty.",
};

export function messagesView(): HTMLElement {
  const destination = chosen();
  const tabs = TABS.filter((tab) => tab !== "log" || state.overview?.log);
  const isLog = state.tab === "log";
  const title = isLog || !destination ? "The log of this object" : `Messages for ${short(destination.name, 40)}`;
  return h(
    "section",
    { "aria-labelledby": "messages", class: "messages" },
    h("h2", { id: "messages" }, title),
    h("div", { role: "tablist", "aria-label": "State" }, ...tabs.map(tabOf)),
    h(
      "div",
      { role: "tabpanel", id: "panel", "aria-labelledby": `tab-${state.tab}`, tabindex: 0 },
      isLog ? rewind() : bulk(),
      isLog ? list(state.log?.messages ?? null) : list(state.messages?.messages ?? null),
      pager(),
    ),
  );
}

function tabOf(tab: Tab): HTMLElement {
  const isChosen = tab === state.tab;
  const each = chosen();
  const numbers: Record<Tab, number | undefined> = {
    pending: each?.pending,
    delayed: each && each.delayed + each.blocked,
    dead: each?.dead,
    log: undefined,
  };
  const number = numbers[tab];
  return h(
    "a",
    {
      role: "tab",
      id: `tab-${tab}`,
      href: addressOf({ tab, destination: each?.name ?? null }),
      "aria-selected": String(isChosen),
      "aria-controls": "panel",
      tabindex: isChosen ? 0 : -1,
    },
    NAMES[tab],
    number !== undefined && h("span", { class: tab === "dead" && number > 0 ? "pill bad" : "pill" }, count(number)),
  );
}

/** What can be done to those that are ticked. */
function bulk(): Child {
  const { tab, selected } = state;
  const shown = state.messages?.messages ?? [];
  if (shown.length === 0 || !actionsOf(tab).some((action) => may(action))) return null;
  const ticked = shown.filter(({ id }) => selected.has(id)).length;
  const isAll = ticked === shown.length;
  return h(
    "div",
    { class: "bulk" },
    h(
      "label",
      {},
      h("input", { type: "checkbox", "data-do": "tick-all", checked: isAll, "data-key": "all" }),
      ticked > 0 ? `${count(ticked)} chosen` : "Choose all shown",
    ),
    ...actionsOf(tab)
      .filter((action) => may(action))
      .map((action) =>
        button(LABELS[action], "ask-chosen", {
          "data-action": action,
          disabled: ticked === 0,
          class: action === "discard" || action === "cancel" ? "danger" : null,
        }),
      ),
  );
}

function rewind(): Child {
  if (!may("rewind") || !state.overview?.destinations.some(({ missing }) => !missing)) return null;
  return h("div", { class: "bulk" }, button("Rewind a destination", "ask", { "data-action": "rewind" }));
}

/** What can be done to messages of a state, and what that is called. */
export function actionsOf(tab: Tab): ("retry" | "cancel" | "redrive" | "discard")[] {
  if (tab === "pending") return ["cancel"];
  if (tab === "delayed") return ["retry", "cancel"];
  return tab === "dead" ? ["redrive", "discard"] : [];
}

export const LABELS = { retry: "Retry now", cancel: "Cancel", redrive: "Redrive", discard: "Discard" } as const;

function list(messages: readonly ShownMessage[] | null): HTMLElement {
  if (messages === null) return h("p", { class: "empty" }, "Loading …");
  if (messages.length === 0) return h("p", { class: "empty" }, EMPTY[state.tab]);
  return h("ul", { class: "list" }, ...messages.map(item));
}

function item(message: ShownMessage): HTMLElement {
  const { id, type, payload, key, attempts = 0, timestamp, error } = message;
  const isTicked = state.selected.has(id);
  const canTick = state.tab !== "log" && actionsOf(state.tab).some((action) => may(action));
  const name = type === undefined ? "message" : short(type, 60);
  return h(
    "li",
    { "data-key": id, class: isTicked ? "ticked" : null },
    canTick &&
      h("input", { type: "checkbox", "data-do": "tick", "data-id": id, checked: isTicked, "aria-label": `Choose ${name} ${shortId(id)}` }),
    h(
      "div",
      { class: "what" },
      h(
        "button",
        { type: "button", class: "open", "data-do": "open", "data-id": id },
        h("b", {}, name),
        " ",
        h("span", { class: "mono" }, shortId(id)),
      ),
      h("code", { class: "preview", dir: "ltr" }, short(payload.text.replace(/\s+/g, " "), 160)),
      error !== undefined && h("p", { class: "why" }, message.reason && `${message.reason}: `, short(error, 160)),
    ),
    h(
      "div",
      { class: "when" },
      key !== undefined && h("span", { class: "key mono", title: "Ordering key" }, short(key, 24)),
      attempts > 0 && h("span", {}, counted(attempts, "attempt")),
      message.deliverAt !== undefined && h("span", { class: "due" }, time(message.deliverAt, "in")),
      state.tab === "delayed" && message.deliverAt === undefined && h("span", { class: "due" }, "behind its key"),
      h("span", {}, time(message.lastFailedAt || timestamp, "ago")),
    ),
  );
}

function pager(): Child {
  const hasMore = state.tab === "log" ? state.log?.next !== undefined : state.messages?.more;
  if (!hasMore && state.pages.length === 0) return null;
  return h(
    "nav",
    { class: "pager", "aria-label": "Pages" },
    button(state.tab === "log" ? "Newer" : "Previous", "previous", { disabled: state.pages.length === 0 }),
    h("span", {}, `Page ${state.pages.length + 1}`),
    button(state.tab === "log" ? "Older" : "Next", "next", { disabled: !hasMore }),
  );
}
