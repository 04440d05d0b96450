/** What a click or a form does, by the name in `data-do`. */

import type { FleetBatchRequest } from "../fleet-api.ts";
import type { InspectorAction } from "../wire.ts";
import * as api from "./api.ts";
import { ask, confirmed, dismiss, type Intent, outcomeText, tell } from "./confirm.ts";
import { closeDrawer, openMessage } from "./drawer.ts";
import { counted } from "./format.ts";
import type { Refresher } from "./refresh.ts";
import { addressOf, chosen, state } from "./state.ts";

/** Does what an element says. */
export async function doing(element: HTMLElement, refresher: Refresher, render: () => void): Promise<void> {
  const { id = "", action = "" } = element.dataset;
  switch (element.dataset.do) {
    case "ask":
      return perform(intentOf(element), refresher);
    case "ask-chosen":
      return perform({ action: action as InspectorAction, destination: chosen()?.name ?? "", ids: [...state.selected] }, refresher);
    case "ask-batch":
      return startBatch(action as FleetBatchRequest["action"], refresher);
    case "batch-stop":
    case "batch-resume":
      await (element.dataset.do === "batch-stop" ? api.stopBatch(id) : api.resumeBatch(id));
      return refresher.now();
    case "open":
      return openMessage(id);
    case "close-drawer":
      return closeDrawer();
    case "dismiss":
      return dismiss();
    case "dismiss-outcome":
      return element.parentElement?.remove();
    case "tick":
      if (!state.selected.delete(id)) state.selected.add(id);
      return render();
    case "tick-all": {
      const all = state.messages?.messages ?? [];
      state.selected = new Set(all.every((each) => state.selected.has(each.id)) ? [] : all.map((each) => each.id));
      return render();
    }
    case "live":
      state.isLive = !state.isLive;
      render();
      return refresher.now();
    case "next":
    case "previous":
      return turn(element.dataset.do === "next", refresher);
  }
}

/** Opens an object, or filters the fleet: both change the address alone. */
export function submitting(form: HTMLFormElement): void {
  const given = new FormData(form);
  const text = (name: string): string => String(given.get(name) ?? "").trim();
  if (form.dataset.do === "find") {
    const object = text("object");
    const which = /^[0-9a-f]{64}$/.test(object) ? { id: object } : { name: object };
    location.hash = addressOf({ object: { namespace: text("namespace"), ...which }, destination: null, tab: "pending" });
    return;
  }
  const filter = { search: text("search"), trouble: text("trouble"), destination: text("destination"), namespace: text("namespace") };
  location.hash = addressOf({ object: null, filter });
}

function intentOf({ dataset: { action, destination, ids, to } }: HTMLElement): Intent {
  return {
    action: action as InspectorAction,
    ...(destination !== undefined && { destination }),
    ...(ids !== undefined && { ids: JSON.parse(ids) as string[] }),
    ...(to !== undefined && { to: Number(to) }),
  };
}

async function perform(intent: Intent, refresher: Refresher): Promise<void> {
  const { object } = state;
  const command = object && (await confirmed(intent));
  if (!command) return;
  closeDrawer();
  try {
    tell(outcomeText(await api.act(object, command)));
  } catch (error) {
    tell(`Not done. ${(error as Error).message}`, true);
  }
  state.selected = new Set();
  await refresher.now();
}

async function startBatch(action: FleetBatchRequest["action"], refresher: Refresher): Promise<void> {
  const filter = Object.fromEntries(Object.entries(state.filter).filter(([, value]) => value !== "")) as FleetBatchRequest["filter"];
  const wanted = action === "redrive" ? { ...filter, trouble: "dead" as const } : filter;
  const text = `${counted(state.fleet?.total ?? 0, "destination")} match now. It goes on by itself, a few objects a second, and can be stopped.`;
  const verb = { redrive: "Redrive", flush: "Flush", pause: "Pause", resume: "Resume" }[action];
  const isSure = await ask(`${verb} all that match?`, text, verb, false, [], () => true);
  if (!isSure) return;
  const batch = await api.batch({ action, filter: wanted });
  tell(`Started: ${counted(batch.total, "destination")}.`);
  await refresher.now();
}

/** To the next page, or back. */
async function turn(isNext: boolean, refresher: Refresher): Promise<void> {
  const next = state.object ? (state.tab === "log" ? state.log?.next : state.messages?.messages.at(-1)?.id) : state.fleet?.next;
  if (!isNext) state.pages.pop();
  else if (next !== undefined) state.pages.push(String(next));
  state.selected = new Set();
  await refresher.now();
}
