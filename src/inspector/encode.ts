/** Values as text, for a person: everything that a message can hold, with nothing lost on the way, up to a limit of size. */

import { kindOf } from "../api/errors.js";
import { quoted, visible } from "./visible.js";
import type { ShownValue } from "./wire.js";

/** Values deeper than this are left out: their indentation alone would fill the page. */
const MOST_LEVELS = 64;
/** So many bytes of one piece of binary data are shown. */
const MOST_BYTES = 4096;
/** A list of short values stays on one line of up to so many characters. */
const LINE = 100;
const NAME = /^[\p{L}_$][\p{L}\d_$]*$/u;

/**
 * A value as text that looks like the code which makes it: `123n`, `undefined`, `-0`, `Date("…")`, `Map { … }`, binary data in hexadecimal, and halves of
 * surrogate pairs as escapes.
 *
 * @param limit how many characters at most, about
 */
export function encode(value: unknown, limit: number): ShownValue {
  const writer = new Writer(limit);
  const text = writer.write(value, 0);
  const cuts = [writer.room < 0 && `the first ${limit.toLocaleString("en")} characters`, ...writer.left].filter(Boolean);
  return cuts.length > 0 ? { text, cut: cuts.join("; ") } : { text };
}

/** Makes text until there is no room, and remembers what it leaves out. */
class Writer {
  readonly #path: object[] = [];
  readonly left: Set<string> = new Set<string>();
  /** For so many more characters there is room; below 0 something was left out. */
  room: number;

  constructor(limit: number) {
    this.room = limit;
  }

  /** Text, as far as there is room for it. */
  #fit(text: string): string {
    const { room } = this;
    this.room -= text.length;
    return text.length <= room ? text : `${text.slice(0, Math.max(0, room))}…`;
  }

  write(value: unknown, level: number): string {
    if (typeof value === "string") return this.#string(value);
    if (typeof value === "bigint") return this.#fit(`${value}n`);
    if (Object.is(value, -0)) return this.#fit("-0");
    if (typeof value !== "object" || value === null) return this.#fit(visible(String(value)));
    if (this.#path.includes(value)) return this.#fit(`[circular, ${this.#path.length - this.#path.indexOf(value)} up]`);
    if (level >= MOST_LEVELS) {
      this.left.add(`${MOST_LEVELS} levels`);
      return this.#fit("[…]");
    }
    this.#path.push(value);
    const text = this.#object(value, level);
    this.#path.pop();
    return text;
  }

  /** No more of it is looked at than there is room for. */
  #string(value: string): string {
    return this.#fit(quoted(value.slice(0, Math.max(0, this.room) + 1)));
  }

  #object(value: object, level: number): string {
    const kind = kindOf(value);
    const inner = (item: unknown): string => this.write(item, level + 1);
    if (Array.isArray(value)) return this.#list(value, level);
    if (value instanceof Date) return this.#fit(Number.isNaN(value.getTime()) ? "Date(invalid)" : `Date("${value.toISOString()}")`);
    if (value instanceof Map) {
      return this.#parts(`Map(${value.size}) {`, "}", value, level, ([key, item]) => `${inner(key)} => ${inner(item)}`);
    }
    if (value instanceof Set) return this.#parts(`Set(${value.size}) {`, "}", value, level, inner);
    if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return this.#binary(kind, value);
    if (value instanceof RegExp) return this.#fit(visible(String(value)));
    if (value instanceof Error) {
      const cause = value.cause === undefined ? "" : ` caused by ${inner(value.cause)}`;
      return `${this.#fit(visible(value.name))}(${this.#string(value.message)})${cause}`;
    }
    if (value instanceof Number || value instanceof String || value instanceof Boolean || value instanceof BigInt) {
      return `${kind}(${inner(value.valueOf())})`;
    }
    const open = kind === "Object" ? "{" : `${kind} {`;
    return this.#parts(open, "}", Object.entries(value), level, ([name, item]) => this.#property(name, item, level));
  }

  #property(name: string, item: unknown, level: number): string {
    const shown = this.#fit(NAME.test(name) && visible(name) === name ? name : quoted(name));
    return `${shown}: ${this.write(item, level + 1)}`;
  }

  #list(list: readonly unknown[], level: number): string {
    const names = Object.keys(list);
    const isPlain = names.length === list.length && (list.length === 0 || names.at(-1) === String(list.length - 1));
    if (isPlain) return this.#parts("[", "]", list, level, (item) => this.write(item, level + 1));
    // With holes, or names beside its items.
    return this.#parts(`Array(${list.length}) {`, "}", names, level, (name) => this.#property(name, list[name as never], level));
  }

  #binary(kind: string, value: ArrayBuffer | ArrayBufferView): string {
    const all = ArrayBuffer.isView(value) ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : new Uint8Array(value);
    const isCut = all.length > MOST_BYTES;
    if (isCut) this.left.add(`the first ${MOST_BYTES} of ${all.length.toLocaleString("en")} bytes`);
    const hexadecimal = Array.from(all.subarray(0, MOST_BYTES), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    return this.#fit(`${kind}(${all.length} ${all.length === 1 ? "byte" : "bytes"}) <${hexadecimal}${isCut ? " …" : ""}>`);
  }

  /** Parts on one line where they are short, and on a line each otherwise. */
  #parts<T>(open: string, close: string, parts: Iterable<T>, level: number, write: (part: T) => string): string {
    const texts: string[] = [];
    for (const part of parts) {
      if (this.room < 0) break;
      this.room -= 2;
      texts.push(write(part));
    }
    if (texts.length === 0) return this.#fit(open + close);
    const length = texts.reduce((sum, text) => sum + text.length + 2, open.length + close.length);
    if (level > 0 && length <= LINE && !texts.some((text) => text.includes("\n"))) return `${open} ${texts.join(", ")} ${close}`;
    const indent = "  ".repeat(level);
    this.room -= (indent.length + 2) * texts.length;
    return `${open}\n${texts.map((text) => `${indent}  ${text}`).join(",\n")}\n${indent}${close}`;
  }
}
