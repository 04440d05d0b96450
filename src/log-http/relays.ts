/** The relays of one object: their sockets, and a word to each of them when the log has grown. */

import { pageRequest } from "./attach.js";
import { endOfLog, type LogSource } from "./chunk.js";
import { textOf } from "./offset.js";

export interface Relays {
  /** Whether a socket is a relay's. */
  owns(socket: WebSocket): boolean;
  /**
   * Answers a relay that asks for a socket.
   *
   * @param fetch the class's own, which says whether the request may read the log
   */
  attach(request: Request, fetch: (request: Request) => unknown): Promise<Response>;
  /** Answers the other side's goodbye. */
  close(socket: WebSocket): void;
  /** Begins to follow the log, if there are relays. They may be left from before the object hibernated. */
  start(source: LogSource): void;
}

/** No class comes upon it by chance. */
const TAG = "\u{10FFFF}do-transactional-outbox log";
const NEXT_OFFSET = "Stream-Next-Offset";
/** The protocol's code for an error of the server. Relays end their readers' requests, and those come again. */
const BROKEN = 1011;

/** Leaves the sockets of relays out of `ctx.getWebSockets()`. */
export function relaysOf(ctx: DurableObjectState): Relays {
  const native = ctx.getWebSockets.bind(ctx);
  const relays = (): WebSocket[] => native(TAG);
  function getWebSockets(tag?: string): WebSocket[] {
    const all = tag === undefined ? native() : native(tag);
    return tag === TAG || relays().length === 0 ? all : all.filter((socket) => !owns(socket));
  }
  Object.defineProperty(ctx, "getWebSockets", { value: getWebSockets, writable: true, configurable: true });

  function owns(socket: WebSocket): boolean {
    try {
      return ctx.getTags(socket).includes(TAG);
    } catch {
      // Not one that the object has accepted: the class calls its handlers by itself.
      return false;
    }
  }
  let isFollowing = false;
  let log: LogSource | undefined;

  /** Not what keeps the object in memory: it is not part of a request, and has no timer. */
  async function follow(source: LogSource): Promise<void> {
    if (isFollowing) return;
    isFollowing = true;
    try {
      while (relays().length > 0) await nextIn(source);
    } catch (error) {
      // The next reader of a page learns of it.
      for (const socket of relays()) socket.close(BROKEN, "The log can't be followed.");
      console.error("[do-transactional-outbox] The log can't be followed for its relays.", error);
    } finally {
      isFollowing = false;
    }
  }

  /** Tells the relays the end of the log, if they do not know it, and waits for a message behind it. */
  async function nextIn(source: LogSource): Promise<void> {
    const tail = source.tail()[Symbol.asyncIterator]();
    // Begun before the end is looked up, so that no message is between them.
    const arrival = tail.next();
    arrival.catch(() => {});
    const end = textOf(await endOfLog(source));
    for (const socket of relays()) {
      if (socket.deserializeAttachment() === end) continue;
      // Outlives the object's hibernation, as the socket does.
      socket.serializeAttachment(end);
      socket.send(end);
    }
    await arrival;
    await tail.return?.();
  }

  return {
    owns,
    async attach(request, fetch) {
      const response = (await fetch(pageRequest(request, "now"))) as Response;
      const offset = response.headers.get(NEXT_OFFSET);
      if (response.status !== 200 || offset === null || !log) return response;
      await response.body?.cancel();
      const { 0: client, 1: server } = new WebSocketPair();
      ctx.acceptWebSocket(server, [TAG]);
      server.serializeAttachment(offset);
      void follow(log);
      return new Response(null, { status: 101, webSocket: client });
    },
    close: (socket) => socket.close(),
    start(source) {
      log = source;
      void follow(source);
    },
  };
}
