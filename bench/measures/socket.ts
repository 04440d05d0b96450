/** A socket to an object, over which it is told to put, and says when a message was committed and when it was delivered. */
import { once } from "node:events";
import type { EntrantName } from "../contestants.ts";
import type { Runtime } from "../runtime.ts";

/** Hears that a message was committed or delivered, and when. */
export type Heard = (isCommit: boolean, number: number, at: number) => void;

export async function socketTo(runtime: Runtime, entrant: EntrantName, object: string, heard: Heard): Promise<WebSocket> {
  const url = new URL(`${entrant}/socket/0/nothing/${object}`, runtime.url);
  url.protocol = "ws";
  const socket = new WebSocket(url);
  socket.addEventListener("message", ({ data }) => {
    const at = performance.now();
    const isCommit = String(data).startsWith("c");
    for (const number of String(data).slice(1).split(",")) heard(isCommit, Number(number), at);
  });
  await once(socket, "open");
  return socket;
}
