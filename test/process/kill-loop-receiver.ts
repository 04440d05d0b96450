/** The destination of the kill loop, in a process of its own: it writes down on disk what arrives, before it answers. Run with a log's path and a seed. */
import { once } from "node:events";
import { openSync, writeSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import { CLASSES, type ClassName, generator, type Line, type Order, type Sent, type SentMessage } from "./kill-loop-words.ts";

const [path = "", seed = "0"] = process.argv.slice(2);
const log = openSync(path, "a");
/** A generator for each object: how many calls another one makes must not change what this one is answered. */
const luck = new Map<ClassName, () => number>(CLASSES.map((kind, n) => [kind, generator(Number(seed) + n)]));
/** The life that may send: what an earlier one has left on the wire does not count. */
let life = 1;
let calm = false;
let arrived = 0;
/** Answers that are held back while the sender is to stand still. */
let held: (() => void)[] | null = null;
/** Who waits for a number of calls. */
const waiting = new Set<{ at: number; answer: () => void }>();

function record(line: Line): void {
  writeSync(log, `${JSON.stringify(line)}\n`);
}

/** The bigger part of all calls succeed. Only an object that takes outcomes gets some. */
function orderFor(kind: ClassName, messages: readonly SentMessage[]): Order {
  const random = luck.get(kind) ?? Math.random;
  const plain = { acked: [], retried: [], rejected: [] };
  if (calm) return { end: "return", ...plain };
  const chance = random();
  const end = chance < 0.02 ? "hang" : chance < 0.12 ? "throw" : "return";
  if (kind.endsWith("Plain")) return { end, ...plain };
  const order = { end, acked: [] as number[], retried: [] as number[], rejected: [] as number[] } as const;
  for (const i of messages.keys()) {
    const each = random();
    if (each < 0.1) order.acked.push(i);
    else if (each < 0.16) order.retried.push(i);
    else if (each < 0.18) order.rejected.push(i);
  }
  return order;
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [, verb, kind = "", number = ""] = (request.url ?? "").split("/");
  if (verb === "send") {
    const sent = (await json(request)) as Sent;
    if (Number(number) !== life) return void request.socket.destroy();
    const order = orderFor(kind as ClassName, sent.messages);
    record({ type: "send", kind: kind as ClassName, life, at: Date.now(), ...sent, order });
    const give = (): unknown => response.end(JSON.stringify(order));
    if (held) held.push(give);
    else give();
    arrived++;
    for (const one of waiting) if (one.at <= arrived && waiting.delete(one)) one.answer();
    return;
  }
  // From the loop itself.
  if (verb === "after") return void waiting.add({ at: arrived + Number(kind), answer: () => response.end() });
  if (verb === "crash") {
    held = null;
    for (const { answer } of waiting) answer();
    waiting.clear();
  }
  if (verb === "crash") record({ type: "crash", life: life++ });
  if (verb === "hold") held = [];
  if (verb === "release") {
    for (const give of held ?? []) give();
    held = null;
  }
  if (verb === "calm") calm = true;
  response.end();
}

const server = createServer((request, response) => {
  answer(request, response).catch(() => response.destroy());
});
server.listen(0, "127.0.0.1");
await once(server, "listening");
process.send?.((server.address() as AddressInfo).port);
// Whoever has started it is gone.
process.once("disconnect", () => process.exit());
