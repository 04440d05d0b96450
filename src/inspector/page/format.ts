/** Numbers and times as people read them. */

import { visible } from "../visible.ts";
import { h } from "./dom.ts";

/** How far the object's clock is ahead of this one, in milliseconds. */
let aheadMs = 0;

export function setClock(now: number): void {
  aheadMs = now - Date.now();
}

const NUMBER = new Intl.NumberFormat("en");

export function count(value: number): string {
  return NUMBER.format(value);
}

/** `3 messages`, `1 message`. */
export function counted(value: number, one: string, many: string = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A duration, to about two digits. */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.floor(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129_600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}

/** A time that is shown as how far away it is, and is brought up to date each second. */
export function time(at: number | null | undefined, kind: "ago" | "in" | "for", otherwise = "–"): HTMLElement {
  if (at === null || at === undefined) return h("span", { class: "none" }, otherwise);
  const date = new Date(at);
  const exact = Number.isNaN(date.getTime()) ? undefined : date.toISOString();
  return h("time", { "data-at": at, "data-kind": kind, datetime: exact, title: exact }, away(at, kind));
}

function away(at: number, kind: string): string {
  const seconds = (at - Date.now() - aheadMs) / 1000;
  if (kind === "in") return seconds <= 0 ? "now" : `in ${duration(Math.ceil(seconds))}`;
  if (kind === "for") return duration(Math.max(0, -seconds));
  return seconds > -1 ? "just now" : `${duration(-seconds)} ago`;
}

/** Brings all times in line with the clock. */
export function tick(): void {
  for (const each of document.querySelectorAll<HTMLElement>("time[data-at]")) {
    const text = away(Number(each.dataset.at), each.dataset.kind ?? "");
    if (each.textContent !== text) each.textContent = text;
  }
}

/** An exact time. */
export function exactly(at: number): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? String(at) : date.toISOString().replace("T", " ").replace("Z", " UTC");
}

/** Text from outside on one line, with what can't be seen as escapes, and cut where it is long. */
export function short(text: string, length: number): string {
  const shown = visible(text);
  return shown.length > length ? `${shown.slice(0, length - 1)}…` : shown;
}

/** The end of an id that the outbox made tells messages apart; one of the caller's own is shown from its beginning. */
export function shortId(id: string): string {
  const own = /^.{36}-0*(\d+)$/.exec(id);
  return own ? `#${own[1]}` : short(id, 28);
}

export function bytes(value: number): string {
  if (value < 1024) return counted(value, "byte");
  return value < 1024 ** 2 ? `${Math.round(value / 1024)} KB` : `${(value / 1024 ** 2).toFixed(1)} MB`;
}
