/** Confirmation: says what an action will do before it is done, and what has become of it afterwards. */

import { visible } from "../visible.ts";
import type { InspectorAction, InspectorCommand, InspectorDestination, InspectorOutcome } from "../wire.ts";
import { button, type Child, h } from "./dom.ts";
import { counted, short } from "./format.ts";
import { state } from "./state.ts";

const dialog = h("dialog", { class: "confirm", "aria-labelledby": "confirm-title" }) as HTMLDialogElement;
const outcomes = h("div", { class: "outcomes", role: "status", "aria-live": "polite" });

/** So long an outcome stays, in milliseconds. */
const STAYS_MS = 12_000;

export function placeDialogs(): void {
  document.body.append(dialog, outcomes);
}

/** What an action is about. */
export interface Intent {
  readonly action: InspectorAction;
  readonly destination?: string;
  readonly ids?: readonly string[];
  readonly to?: number;
}

/** Resolves to the command once it is confirmed, and to `null` where it is not. */
export function confirmed(intent: Intent): Promise<InspectorCommand | null> {
  const { title, text, verb, isDangerous, fields } = question(intent);
  return ask(title, text, verb, isDangerous, fields, (form) => commandOf(intent, form));
}

/** Shows a question with what can be chosen in it. Resolves to what `answer` makes of that. */
export function ask<T>(
  title: string,
  text: string,
  verb: string,
  isDangerous: boolean,
  fields: readonly Child[],
  answer: (form: FormData) => T,
): Promise<T | null> {
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "confirm-title" }, title),
    h("p", {}, text),
    ...fields,
    h(
      "footer",
      { class: "actions" },
      button("Not now", "dismiss", {}),
      h("button", { type: "submit", class: isDangerous ? "danger strong" : "primary", autofocus: true }, verb),
    ),
  ) as HTMLFormElement;
  dialog.replaceChildren(form);
  return new Promise((resolve) => {
    let result: T | null = null;
    form.addEventListener("submit", () => {
      result = answer(new FormData(form));
    });
    dialog.addEventListener("close", () => resolve(result), { once: true });
    dialog.showModal();
  });
}

export function dismiss(): void {
  dialog.close();
}

interface Question {
  readonly title: string;
  readonly text: string;
  readonly verb: string;
  readonly isDangerous: boolean;
  readonly fields: readonly Child[];
}

function question({ action, destination, ids, to }: Intent): Question {
  const where = destination === undefined ? "all destinations" : short(destination, 40);
  const these = counted(ids?.length ?? 0, "message");
  const plain = { isDangerous: false, fields: [] };
  switch (action) {
    case "flush":
      return {
        ...plain,
        title: `Flush ${where}?`,
        text: "Attempts delivery now, without waiting for the end of a backoff.",
        verb: "Flush",
      };
    case "pause":
      return { ...plain, title: `Pause ${where}?`, text: "Nothing is handed over until it is resumed. Messages are kept.", verb: "Pause" };
    case "resume":
      return { ...plain, title: `Resume ${where}?`, text: "Messages that wait are due at once.", verb: "Resume" };
    case "retry":
      return { ...plain, title: `Retry ${these} now?`, text: `Due at once, at ${where}, instead of at their time.`, verb: "Retry now" };
    case "cancel": {
      const text = `Never handed over to ${where} (again). A message that was tried may have arrived all the same.`;
      return { title: `Cancel ${these}?`, text, verb: "Cancel them", isDangerous: true, fields: [] };
    }
    case "redrive": {
      const title = ids ? `Redrive ${counted(ids.length, "dead letter")}?` : `Redrive all dead letters of ${where}?`;
      const text = `${ids ? "" : `${counted(deadOf(destination), "dead letter")} at the moment. `}Sent again at once, before newer messages, with attempts counted from 1.`;
      return { ...plain, title, text, verb: "Redrive" };
    }
    case "discard": {
      const title = `Discard ${counted(ids?.length ?? 0, "dead letter")}?`;
      return { title, text: `Deleted for good: ${where} never gets them.`, verb: "Discard", isDangerous: true, fields: [] };
    }
    case "drop":
      return {
        title: `Drop ${where}?`,
        text: "The class does not have this destination any more. What is still waiting for it:",
        verb: "Drop",
        isDangerous: true,
        fields: [
          choice("deadLetters", "no", "is deleted, with its dead letters", true),
          choice("deadLetters", "yes", "becomes dead letters, which stay", false),
        ],
      };
    case "rewind":
      return {
        title: destination === undefined ? "Rewind a destination?" : `Rewind ${where}?`,
        text: "It gets again everything that the log has from this position on. What it has set aside stays as it is.",
        verb: "Rewind",
        isDangerous: true,
        fields: [...(destination === undefined ? [whichDestination()] : []), position(to)],
      };
  }
}

function deadOf(destination: string | undefined): number {
  const all = state.overview?.destinations ?? [];
  return all.filter(({ name }) => destination === undefined || name === destination).reduce((sum, { dead }) => sum + dead, 0);
}

function choice(name: string, value: string, label: string, isChosen: boolean): HTMLElement {
  return h("label", { class: "choice" }, h("input", { type: "radio", name, value, checked: isChosen }), label);
}

function whichDestination(): HTMLElement {
  const all = (state.overview?.destinations ?? []).filter(({ missing }: InspectorDestination) => !missing);
  return h(
    "label",
    { class: "field" },
    "Destination",
    h("select", { name: "destination" }, ...all.map(({ name }) => h("option", { value: name }, short(name, 40)))),
  );
}

function position(to: number | undefined): HTMLElement {
  const { first = 1, last = 1 } = state.overview?.log ?? {};
  return h(
    "label",
    { class: "field" },
    `From position (${first} to ${last})`,
    h("input", { type: "number", name: "to", required: true, min: first, max: last + 1, step: 1, value: to ?? first }),
  );
}

function commandOf({ action, destination, ids, to }: Intent, form: FormData): InspectorCommand {
  const chosen = destination ?? (form.get("destination") as string | null) ?? undefined;
  const command = {
    action,
    ...(chosen !== undefined && { destination: chosen }),
    ...(ids && { ids }),
    ...(action === "rewind" && { to: Number(form.get("to") ?? to) }),
    ...(action === "drop" && { deadLetters: form.get("deadLetters") === "yes" }),
  };
  return command as InspectorCommand;
}

const DONE: Record<InspectorAction, (count: number) => string> = {
  flush: (count) => (count > 0 ? `Flushed: ${counted(count, "message")} fewer waiting.` : "Flushed: nothing was delivered."),
  pause: (count) => (count > 0 ? `Paused: ${counted(count, "destination")}.` : "It was paused already."),
  resume: (count) => (count > 0 ? `Resumed: ${counted(count, "destination")}.` : "It was not paused."),
  retry: (count) => `Due at once: ${counted(count, "message")}.`,
  cancel: (count) => `Cancelled: ${counted(count, "message")}.`,
  redrive: (count) => `Redriven: ${counted(count, "dead letter")}.`,
  discard: (count) => `Discarded: ${counted(count, "message")}.`,
  drop: (count) => `Dropped: it had ${counted(count, "message")} yet to get.`,
  rewind: (count) => `Rewound: it gets up to ${counted(count, "message")} again.`,
};

/** What has become of an action, in a sentence or two. */
export function outcomeText({ action, count, gone, running }: InspectorOutcome): string {
  if (running) return "Flushing goes on: a handler takes its time.";
  const others =
    gone > 0 ? ` ${counted(gone, "other was", "others were")} not in that state any more: delivered, dealt with, or under way.` : "";
  return DONE[action](count) + others;
}

/** Shows an outcome, read out by a screen reader, until it is dismissed or some time has passed. */
export function tell(text: string, isBad = false): void {
  const outcome = h(
    "div",
    { class: isBad ? "outcome bad" : "outcome" },
    h("span", {}, visible(text)),
    button("Dismiss", "dismiss-outcome", { class: "quiet" }),
  );
  outcomes.append(outcome);
  setTimeout(() => outcome.remove(), STAYS_MS);
}
