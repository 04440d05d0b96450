/** Limits of dead letters: deletes those that have expired, and the first of too many, in bounded steps when the alarm calls. */

import type { OutboxContext } from "../context.js";
import { NEVER } from "../storage/memory.js";
import type { Read } from "../storage/message.js";
import { idOf, scanOf } from "../storage/scan.js";
import type { Delivery } from "../subscription/delivery.js";
import { lettersDueAt, type Reader } from "../subscription/reader.js";
import { deadLettersOf, type LetterKeeping, type LetterPage } from "./dead-letters.js";

/** So many pages of dead letters, of eight each, are looked at in one run. The next alarm continues. */
const MOST_PAGES = 128;

export interface LetterLimiter {
  /** Whether any dead letters are to be deleted now. */
  isDue(): boolean;
  /** Deletes them, as far as one run goes. Never rejects: storage that fails resets the object. */
  run(): Promise<void>;
}

/** A pass over all dead letters of a destination, which may take several runs. */
interface Pass {
  behind: number;
  /** When the first of those that stay became one. */
  oldest: number;
  /** When it began, and how many letters there were but for those that it has deleted. */
  readonly begun: number;
  left: number;
}

export function letterLimiterOf(parts: OutboxContext, wake: () => unknown): LetterLimiter {
  const { store, alarm, delivery, settings } = parts;
  const passes = new WeakMap<Reader, Pass>();
  const isDue = (reader: Reader): boolean => lettersDueAt(reader) <= alarm.now();

  function deleted(reader: Reader, limit: "expiresInSeconds" | "max", letters: readonly Read[]): void {
    settings.emit({ type: "dead_letters_deleted", destination: reader.name, limit, ids: letters.map(idOf), dead: reader.deadCount });
  }

  /** Those that were put first go, until there are no more than may be. */
  async function trimCount(reader: Reader, keeping: LetterKeeping): Promise<void> {
    let pages = 0;
    let isCorrected = false;
    const pick = async (): Promise<LetterPage | undefined> => {
      const excess = reader.deadCount - reader.letterLimits.max;
      if (excess <= 0 || pages++ >= MOST_PAGES) return undefined;
      const page = await keeping.next(0);
      isCorrected = !page;
      // What else was counted can't be read.
      if (!page) reader.deadCount = 0;
      return page && { letters: page.letters.slice(0, excess), behind: 0 };
    };
    await keeping.trim(pick, (letters) => deleted(reader, "max", letters));
    if (isCorrected) await save();
  }

  async function trimExpired(reader: Reader, keeping: LetterKeeping): Promise<void> {
    const pass = passes.get(reader) ?? { behind: 0, oldest: NEVER, begun: store.now(), left: reader.deadCount };
    passes.set(reader, pass);
    const { expiresMs } = reader.letterLimits;
    let pages = 0;
    let isOver = false;
    const pick = async (behind: number): Promise<LetterPage | undefined> => {
      if (pages++ >= MOST_PAGES) return undefined;
      const page = await keeping.next(Math.max(behind, pass.behind));
      isOver = !page;
      if (!page) return undefined;
      pass.behind = Math.max(behind, pass.behind);
      const letters = page.letters.filter(({ more: { last = 0 } }) => last + expiresMs <= alarm.now());
      for (const { more } of page.letters)
        if (!((more.last ?? 0) + expiresMs <= alarm.now())) pass.oldest = Math.min(pass.oldest, more.last ?? 0);
      return { letters, behind: page.behind };
    };
    await keeping.trim(pick, (letters) => {
      pass.left -= letters.length;
      deleted(reader, "expiresInSeconds", letters);
    });
    if (!isOver) return;
    passes.delete(reader);
    // One that was added meanwhile may have been passed over. What else was counted can't be read.
    if (reader.deadCount > pass.left) pass.oldest = Math.min(pass.oldest, pass.begun);
    else if (pass.oldest === NEVER) reader.deadCount = 0;
    reader.oldestDeadAt = reader.deadCount > 0 ? pass.oldest : 0;
    await save();
  }

  /** The header says what has been found out. */
  async function save(): Promise<void> {
    while (store.open) await store.open;
    const saved = store.saveHeader();
    wake();
    await saved;
  }

  async function trim({ reader, queue }: Delivery): Promise<void> {
    const keeping = deadLettersOf(parts, { reader, queue }, scanOf(store, reader), wake);
    if (reader.deadCount > reader.letterLimits.max) await trimCount(reader, keeping);
    if (isDue(reader) && reader.deadCount <= reader.letterLimits.max) await trimExpired(reader, keeping);
  }

  return {
    isDue: () => delivery.all.some(({ reader }) => isDue(reader)),

    async run() {
      try {
        for (const each of delivery.all) if (isDue(each.reader)) await trim(each);
      } catch {
        // What storage refuses resets the object, which begins again.
      }
    },
  };
}
