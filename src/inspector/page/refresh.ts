/** Refreshing: asks again and again while someone looks, less often while nothing changes or nothing answers, and not at all while the page is hidden. */

import type { MessagesAnswer } from "../wire.ts";
import * as api from "./api.ts";
import { setClock } from "./format.ts";
import { chosen, state, type Tab } from "./state.ts";

/** How long until the next question, in milliseconds: at first, while nothing changes, and while nothing answers. */
const FIRST_MS = 2000;
const UNCHANGED_MS = 10_000;
const FAILED_MS = 30_000;

export class Refresher {
  readonly #render: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wait = FIRST_MS;
  #last = "";
  /** Counts questions, so that an answer that comes late, after the address has changed, is not shown. */
  #round = 0;

  constructor(render: () => void) {
    this.#render = render;
  }

  begin(): void {
    document.addEventListener("visibilitychange", () => void (document.hidden ? clearTimeout(this.#timer) : this.now()));
    void this.now();
  }

  /** Asks now, and from then on. */
  async now(): Promise<void> {
    this.#wait = FIRST_MS;
    await this.#ask();
  }

  async #ask(): Promise<void> {
    clearTimeout(this.#timer);
    const round = ++this.#round;
    try {
      const apply = await load();
      if (round !== this.#round) return;
      apply();
      state.problem = null;
      const { overview, ...rest } = state;
      // The clock and ages go on by themselves.
      const now = JSON.stringify([
        overview?.destinations.map(({ oldestAgeSeconds: _, ...each }) => each),
        rest.messages,
        rest.log,
        rest.fleet,
        rest.batches,
      ]);
      this.#wait = now === this.#last ? Math.min(UNCHANGED_MS, this.#wait * 1.3) : FIRST_MS;
      this.#last = now;
    } catch (error) {
      if (round !== this.#round) return;
      state.problem = error instanceof api.Problem ? error : new api.Problem(0, "failed", String(error));
      this.#wait = Math.min(FAILED_MS, this.#wait * 2);
    }
    this.#render();
    if (state.isLive && !document.hidden) this.#timer = setTimeout(() => void this.#ask(), this.#wait);
  }
}

/** Asks for what is shown. Resolves to what puts it into place. */
async function load(): Promise<() => void> {
  state.start ??= await api.start();
  const { object, tab, pages } = state;
  if (!object) return await loadFleet();
  const overview = await api.overview(object);
  const destination = chosen(overview)?.name;
  const after = pages.at(-1);
  const hasLog = tab === "log" && overview.log;
  const log = hasLog ? await api.log(object, { direction: "backward", limit: 25, from: after }) : null;
  const messages = tab !== "log" && destination !== undefined ? await list(object, tab, destination, after) : null;
  return () => {
    setClock(overview.now);
    Object.assign(state, { overview, log, messages });
    const shown = new Set(messages?.messages.map(({ id }) => id));
    state.selected = new Set([...state.selected].filter((id) => shown.has(id)));
  };
}

async function list(object: api.ObjectName, tab: Tab, destination: string, after: string | undefined): Promise<MessagesAnswer> {
  const query = { state: tab, destination, limit: 25 };
  try {
    return await api.messages(object, { ...query, after });
  } catch (error) {
    // The message at which the page before ended has left: from the beginning.
    if (after === undefined || (error as api.Problem).code !== "invalid") throw error;
    state.pages = [];
    return await api.messages(object, query);
  }
}

async function loadFleet(): Promise<() => void> {
  if (!state.start?.fleet) return () => {};
  const [fleet, batches] = await Promise.all([api.fleet({ ...state.filter, after: state.pages.at(-1), limit: 25 }), api.batches()]);
  return () => void Object.assign(state, { fleet, batches });
}
