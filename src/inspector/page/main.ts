/** The page: keeps what is shown current while someone looks at it, and does what is clicked. */

import { visible } from "../visible.ts";
import { doing, submitting } from "./actions.ts";
import * as api from "./api.ts";
import { placeDialogs, tell } from "./confirm.ts";
import { h, morph } from "./dom.ts";
import { placeDrawer } from "./drawer.ts";
import { homeView } from "./fleet-view.ts";
import { short, tick } from "./format.ts";
import { headerView } from "./header-view.ts";
import { objectView } from "./object-view.ts";
import { Refresher } from "./refresh.ts";
import { readAddress, state } from "./state.ts";

const app = document.getElementById("app") as HTMLElement;

function render(): void {
  const { problem, object } = state;
  const alert =
    problem &&
    h(
      "div",
      { class: "problem", role: "alert" },
      h("b", {}, problem.code === "unreachable" ? "Not reachable. " : "No answer. "),
      visible(problem.message),
    );
  morph(app, h("div", { id: "app" }, headerView(), alert, object ? objectView() : homeView()));
  const name = object && (object.name ?? object.id);
  document.title = name ? `${short(name, 60)} · Outbox` : "Outbox inspector";
  document.documentElement.dataset.ready = String(state.start !== null && (!object || state.overview !== null || problem !== null));
}

const refresher = new Refresher(render);

/** Another object, destination, tab or page: what was shown of the one before is not shown for it. */
function moved(): void {
  const before = state.object;
  readAddress();
  const isOther = JSON.stringify(before) !== JSON.stringify(state.object);
  if (isOther) state.overview = null;
  state.messages = state.log = state.fleet = null;
  state.problem = null;
  render();
  void refresher.now();
}

function listen(): void {
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-do]") : null;
    if (target && !(target instanceof HTMLFormElement)) void doing(target, refresher, render).catch(report);
  });
  document.addEventListener("submit", (event) => {
    const form = event.target as HTMLFormElement;
    if (!form.dataset.do) return;
    event.preventDefault();
    submitting(form);
  });
  document.addEventListener("change", ({ target }) => {
    const form = target instanceof HTMLSelectElement ? target.closest<HTMLFormElement>("form.filters") : null;
    if (form) submitting(form);
  });
  document.addEventListener("keydown", switchTab);
  window.addEventListener("hashchange", moved);
  setInterval(tick, 1000);
}

/** The arrow keys go from tab to tab. */
function switchTab(event: KeyboardEvent): void {
  const tab = event.target instanceof Element ? event.target.closest<HTMLElement>('[role="tab"]') : null;
  const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
  if (!tab || step === 0) return;
  event.preventDefault();
  const tabs = [...document.querySelectorAll<HTMLElement>('[role="tab"]')];
  const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
  next?.focus();
  next?.click();
}

function report(error: unknown): void {
  tell(error instanceof api.Problem ? error.message : `Something went wrong in this page: ${String(error)}`, true);
}

placeDrawer();
placeDialogs();
listen();
readAddress();
render();
refresher.begin();
