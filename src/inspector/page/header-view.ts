/** The header: finds an object, and says whether what is shown is current. */

import { button, h } from "./dom.ts";
import { short } from "./format.ts";
import { state } from "./state.ts";

export function headerView(): HTMLElement {
  const { start, object, isLive, problem } = state;
  const namespaces = start?.namespaces ?? [];
  const kind = problem ? "bad" : isLive ? "live" : "still";
  return h(
    "header",
    { class: "top" },
    h("a", { class: "brand", href: "#" }, h("span", { class: "mark", "aria-hidden": "true" }, "⇢"), "Outbox"),
    h(
      "form",
      { class: "find", "data-do": "find", role: "search", "aria-label": "Find an object" },
      h(
        "select",
        { name: "namespace", "aria-label": "Namespace", "data-value": namespaces.length > 0 ? (object?.namespace ?? namespaces[0]) : null },
        ...namespaces.map((each) => h("option", { value: each }, short(each, 40))),
      ),
      h("input", {
        name: "object",
        type: "search",
        "aria-label": "Name or id of an object",
        placeholder: "Name or id of an object",
        required: true,
        autocomplete: "off",
        spellcheck: "false",
        "data-value": object ? (object.name ?? object.id ?? "") : "",
      }),
      h("button", { type: "submit", class: "primary" }, "Open"),
    ),
    button(
      "",
      "live",
      { class: `state ${kind}`, "aria-pressed": String(isLive) },
      h("span", { class: "dot", "aria-hidden": "true" }),
      "Live",
    ),
  );
}
