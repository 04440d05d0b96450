/** What a relay knows of the end of a log: the object says so over a socket. */

import { CLOCK } from "../destinations/clock.js";

export interface Growth {
  /** Waits until the log is said to have grown beyond an offset: `"late"` after some milliseconds without, `"over"` when nothing more will be said. */
  beyond(offset: string, ms: number): Promise<"grown" | "late" | "over">;
  end(): void;
}

/** Accepts the socket. */
export function growthOf(socket: WebSocket): Growth {
  /** The latest offset that was said and not yet looked at. Offsets sort as the log does. */
  let said = "";
  let isOver = false;
  let wake = (): void => {};
  const over = (): void => {
    isOver = true;
    wake();
  };
  socket.addEventListener("message", ({ data }) => {
    if (typeof data === "string") said = data;
    wake();
  });
  socket.addEventListener("close", over);
  socket.addEventListener("error", over);
  socket.accept();
  return {
    async beyond(offset, ms) {
      let isLate = false;
      const cancel = CLOCK.after(ms, () => {
        isLate = true;
        wake();
      });
      while (said <= offset && !isOver && !isLate) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      cancel();
      if (isOver) return "over";
      if (said <= offset) return "late";
      // Looked at once, whatever is found there.
      said = "";
      return "grown";
    },
    end() {
      over();
      socket.close();
    },
  };
}
