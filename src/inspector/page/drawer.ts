/** The drawer: everything about one message, and what can be done to it. */

import { visible } from "../visible.ts";
import type { ShownMessage } from "../wire.ts";
import * as api from "./api.ts";
import { button, type Child, h } from "./dom.ts";
import { exactly, shortId, time } from "./format.ts";
import { actionsOf, LABELS } from "./messages-view.ts";
import { chosen, may, state } from "./state.ts";

const drawer = h("dialog", { class: "drawer", "aria-labelledby": "drawer-title" }) as HTMLDialogElement;

export function placeDrawer(): void {
  document.body.append(drawer);
  drawer.addEventListener("click", ({ target }) => void (target === drawer && drawer.close()));
}

/** Shows a message of the list at once, and all of it as soon as that is there. */
export async function openMessage(id: string): Promise<void> {
  const isLog = state.tab === "log";
  const listed = (isLog ? state.log : state.messages)?.messages.find((each) => each.id === id);
  const { object } = state;
  const destination = chosen()?.name;
  if (!listed || !object) return;
  fill(listed);
  drawer.showModal();
  if (listed.payload.cut === undefined) return;
  const whole = isLog
    ? api.log(object, { from: listed.position, limit: 1, full: 1 }).then(({ messages: [first] }) => first)
    : api.message(object, destination ?? "", id);
  // It may have been delivered meanwhile: what the list had of it stays.
  const found = await whole.catch(() => undefined);
  if (found?.id === id && drawer.open) fill(found);
}

export function closeDrawer(): void {
  drawer.close();
}

function fill(message: ShownMessage): void {
  const { id, payload, headers = {}, error, type, version, key } = message;
  const facts: [string, Child][] = [
    ["Id", h("span", { class: "mono" }, visible(id))],
    ["Sequence", String(message.sequence)],
    ["Position", message.position === undefined ? null : String(message.position)],
    ["Ordering key", key === undefined ? null : h("span", { class: "mono" }, visible(key))],
    ["Version", version === undefined ? null : String(version)],
    ["Put", when(message.timestamp, "ago")],
    ["Attempts", message.attempts === undefined ? null : String(message.attempts)],
    ["Due", message.deliverAt === undefined ? null : when(message.deliverAt, "in")],
    ["Given up because", message.reason ?? null],
    ["First failed", message.firstFailedAt ? when(message.firstFailedAt, "ago") : null],
    ["Last failed", message.lastFailedAt ? when(message.lastFailedAt, "ago") : null],
    ["Holds its key", message.holdsKey ? "yes: later messages of its key wait for it" : null],
  ];
  const lines = Object.entries(headers);
  drawer.replaceChildren(
    h(
      "header",
      {},
      h("h2", { id: "drawer-title" }, type === undefined ? "Message" : visible(type), " ", h("span", { class: "mono" }, shortId(id))),
      button("Close", "close-drawer", { class: "close" }),
    ),
    h("div", { class: "body", tabindex: 0, role: "region", "aria-label": "Details" }, ...sections(message, facts, lines, payload, error)),
    h("footer", { class: "actions" }, ...actions(message)),
  );
}

function sections(
  message: ShownMessage,
  facts: [string, Child][],
  headers: [string, string][],
  payload: ShownMessage["payload"],
  error: string | undefined,
): Child[] {
  return [
    error !== undefined &&
      h("div", { class: "error" }, h("h3", {}, message.reason ? "Last error" : "Last failure"), h("p", {}, visible(error))),
    h("h3", {}, "Payload"),
    payload.text !== "" && h("pre", { tabindex: 0, "aria-label": "Payload" }, ...colored(payload.text)),
    payload.cut !== undefined && h("p", { class: "cut" }, `Shown: ${payload.cut}.`),
    headers.length > 0 && h("h3", {}, "Headers"),
    headers.length > 0 &&
      h(
        "dl",
        { class: "facts" },
        ...headers.flatMap(([name, value]) => [h("dt", { class: "mono" }, visible(name)), h("dd", { class: "mono" }, visible(value))]),
      ),
    h("h3", {}, "Message"),
    h("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => (value === null ? [] : [h("dt", {}, name), h("dd", {}, value)]))),
  ];
}

function when(at: number, kind: "ago" | "in"): HTMLElement {
  return h("span", {}, time(at, kind), h("small", {}, ` ${exactly(at)}`));
}

function actions({ id, position }: ShownMessage): Child[] {
  if (state.tab === "log") {
    const canRewind = may("rewind") && position !== undefined && (state.overview?.destinations.length ?? 0) > 0;
    return [canRewind && button("Rewind a destination to here", "ask", { "data-action": "rewind", "data-to": String(position) })];
  }
  return actionsOf(state.tab)
    .filter((action) => may(action))
    .map((action) =>
      button(LABELS[action], "ask", {
        "data-action": action,
        "data-ids": JSON.stringify([id]),
        "data-destination": chosen()?.name ?? "",
        class: action === "discard" || action === "cancel" ? "danger" : "primary",
      }),
    );
}

/** So much of a payload is coloured; the rest is plain. */
const COLORED = 20_000;
const TOKEN =
  /<[0-9a-f ]+…?>|("(?:[^"\\]|\\.)*")(\s*:)?|\b(-?\d[\d_.]*(?:e[+-]?\d+)?n?)\b|\b(true|false|null|undefined|NaN|-?Infinity)\b/gi;

/** Strings, numbers and names in colours: pieces of text, whatever is in them. */
function colored(text: string): Child[] {
  const pieces: Child[] = [];
  const head = text.slice(0, COLORED);
  let end = 0;
  for (const match of head.matchAll(TOKEN)) {
    const [whole, string, colon, number] = match;
    pieces.push(head.slice(end, match.index));
    const kind = string === undefined ? (number === undefined ? "w" : "n") : colon === undefined ? "s" : "k";
    pieces.push(h("span", { class: kind }, whole));
    end = match.index + whole.length;
  }
  return [...pieces, head.slice(end), text.slice(COLORED)];
}
