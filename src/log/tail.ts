/** Following the log: what is stored, as it becomes durable, in order and once. */

import type { Read } from "../storage/message.js";
import type { Store } from "../storage/store.js";
import { committedPage } from "./read.js";

/** So many messages are read at a time. Nothing else is kept of them. */
const PAGE_MESSAGES = 100;

/**
 * Yields every message from a position on, each once it is durable, until `signal` is aborted. It reads on when it is asked for more, so that a slow reader
 * costs no memory.
 *
 * @param durable resolves when everything that was written is durable
 */
export async function* follow(
  store: Store,
  from: number,
  durable: () => Promise<void>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Read, void, undefined> {
  let wake = (): void => {};
  const aborted = (): void => wake();
  signal?.addEventListener("abort", aborted);
  try {
    for (let next = from; !signal?.aborted; ) {
      const appended = store.appended();
      const page = await committedPage(store, { from: next, isBackward: false, limit: PAGE_MESSAGES, wants: () => true }, durable);
      for (const message of page.messages) {
        if (signal?.aborted) return;
        yield message;
      }
      ({ next } = page);
      if (!page.isWhole || signal?.aborted) continue;
      // Not a race, which would keep a reaction to the signal for each message.
      await new Promise<void>((resolve) => {
        wake = resolve;
        void appended.then(resolve);
      });
    }
  } finally {
    signal?.removeEventListener("abort", aborted);
  }
}
