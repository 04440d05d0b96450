/** The object's side: answers what the inspector asks, with the manager's own methods, and does what it is told. */

import { textOf } from "../api/errors.js";
import type { OutboxListed } from "../api/message.js";
import type { Core } from "../compose.js";
import { untilWritable } from "../context.js";
import { CLOCK } from "../destinations/clock.js";
import { listed } from "../operate/list.js";
import type { OutboxStats } from "../operate/stats.js";
import { NEVER } from "../storage/memory.js";
import { idOf, scanOf } from "../storage/scan.js";
import { serializedBytes } from "../storage/size.js";
import type { Delivery } from "../subscription/delivery.js";
import { type InspectedMessage, type InspectorAnswer, type InspectorMessages, type InspectorQuery, PAGE, questionOf } from "./calls.js";
import type { InspectorCommand, InspectorDestination, InspectorOutcome, InspectorOverview } from "./wire.js";

/** A page ends early once its messages take this many bytes, so that it fits in one answer over RPC (32 MiB) and in memory. */
const PAGE_BYTES = 2 ** 22;
/** So many messages are read at a time: each may take 2 MB. */
const STEP = 5;
/** How long a `flush` is waited for, in milliseconds. */
const FLUSH_MS = 5000;

/** Answers one question. Never rejects for what is in it. */
export async function answer(core: Core | undefined, given: unknown): Promise<InspectorAnswer> {
  if (!core?.hasOutbox) {
    return { ok: false, code: "no_outbox", error: "This object has no outbox: wrap its class with withTransactionalOutbox() as well." };
  }
  let question: ReturnType<typeof questionOf>;
  try {
    question = questionOf(given);
  } catch (error) {
    return { ok: false, code: "invalid", error: textOf(error) };
  }
  try {
    // Which destinations there are is known once the object has started.
    await untilWritable(core);
    const { destination } = question as { destination?: string };
    if (destination !== undefined && !core.delivery.of(destination)) {
      return { ok: false, code: "gone", error: `The object has no destination ${JSON.stringify(destination)} (any more).` };
    }
    return "read" in question ? await read(core, question) : { ok: true, outcome: await done(core, question) };
  } catch (error) {
    return { ok: false, code: error instanceof TypeError ? "invalid" : "failed", error: textOf(error) };
  }
}

async function read(core: Core, question: InspectorQuery): Promise<InspectorAnswer> {
  switch (question.read) {
    case "overview":
      return { ok: true, overview: await overview(core) };
    case "messages":
      return { ok: true, page: await page(core, question) };
    case "message":
      return { ok: true, message: await one(core, question) };
    case "log": {
      const { read: _, ...options } = question;
      return { ok: true, log: await core.manager.read({ limit: PAGE, ...options }) };
    }
  }
}

async function overview({ ctx, store, alarm, delivery, manager }: Core): Promise<InspectorOverview> {
  const { name } = ctx.id;
  const { memory } = store;
  const { destinations, log } = await manager.stats();
  const shown = delivery.all.flatMap(({ reader }): InspectorDestination[] => {
    const stats = destinations[reader.name];
    const position = reader.queuedCount === 0 ? memory.position : reader.cursor.ackFloor;
    return stats ? [{ name: reader.name, position, types: reader.types && [...reader.types], ...stats }] : [];
  });
  return {
    id: ctx.id.toString(),
    ...(name !== undefined && { name }),
    now: store.now(),
    position: memory.position,
    destinations: shown,
    ...(log && { log }),
    alarm: { own: await alarm.methods.getAlarm(), outbox: memory.wakeAt < NEVER ? memory.wakeAt : null },
  };
}

async function page({ manager }: Core, question: InspectorQuery & { read: "messages" }): Promise<InspectorMessages> {
  const { state, destination, limit = PAGE } = question;
  const messages: InspectedMessage[] = [];
  let { after } = question;
  for (let bytes = 0; messages.length < limit && bytes < PAGE_BYTES; ) {
    const most = Math.min(STEP, limit - messages.length);
    const step: OutboxListed[] = await manager.list({ state, destination, limit: most, ...(after !== undefined && { after }) });
    messages.push(...step);
    if (step.length < most) return { messages, more: false };
    after = step.at(-1)?.id;
    for (const { msg } of step) bytes += serializedBytes(msg);
  }
  return { messages, more: true };
}

/** The message with this id, in whatever state it is: `null` where the destination has got it, or given it up for good. */
async function one(core: Core, { destination, id }: InspectorQuery & { read: "message" }): Promise<InspectedMessage | null> {
  const { store } = core;
  const { reader } = core.delivery.of(destination) as Delivery;
  const scan = scanOf(store, reader);
  const position = await scan.locate(id);
  for (const kind of ["s", "t", "k", "d"] as const) {
    const isOrdered = kind === "s" || kind === "d";
    const behind = isOrdered && position !== undefined ? { kind, key: "", position: position - 1 } : undefined;
    for await (const found of scan.messages(kind, behind)) {
      if (isOrdered && position !== undefined && found.position > position) break;
      if (idOf(found) === id) return listed(core, reader, kind, found, store.now());
    }
  }
  return null;
}

/** Does what a command says. */
async function done(core: Core, command: InspectorCommand): Promise<InspectorOutcome> {
  const { manager, delivery } = core;
  const { action, destination } = command;
  const only = destination === undefined ? {} : { destination };
  switch (command.action) {
    case "flush":
      return await flushed(core, only);
    case "pause":
    case "resume": {
      const chosen = delivery.all.filter(({ reader }) => destination === undefined || reader.name === destination);
      const changed = chosen.filter(({ reader }) => reader.paused !== (action === "pause"));
      await manager[command.action](only);
      return { action, count: changed.length, gone: 0 };
    }
    case "retry":
    case "discard":
      return counted(action, await manager[command.action]([...command.ids], only), command.ids);
    case "cancel": {
      let count = 0;
      for (const id of command.ids) if (await manager.cancel(id, only)) count++;
      return counted(action, count, command.ids);
    }
    case "redrive": {
      const count = await manager.redrive(command.ids && [...command.ids], only);
      return command.ids ? counted(action, count, command.ids) : { action, count, gone: 0 };
    }
    case "drop":
      return { action, count: await manager.dropDestination(command.destination, { deadLetters: command.deadLetters }), gone: 0 };
    case "rewind":
      return { action, count: await manager.rewind(command.destination, { to: command.to }), gone: 0 };
  }
}

function counted(action: InspectorCommand["action"], count: number, ids: readonly string[]): InspectorOutcome {
  return { action, count, gone: Math.max(0, ids.length - count) };
}

/** A handler may take a minute: what has not come to an end by then goes on by itself. */
async function flushed({ manager, ctx }: Core, only: { destination?: string }): Promise<InspectorOutcome> {
  const before = waiting(await manager.stats());
  const flushing = manager.flush(only);
  ctx.waitUntil(flushing);
  let stop = (): void => {};
  const running = await Promise.race([
    flushing.then(() => false),
    new Promise<boolean>((resolve) => {
      stop = CLOCK.after(FLUSH_MS, () => resolve(true));
    }),
  ]);
  stop();
  const count = Math.max(0, before - waiting(await manager.stats()));
  return { action: "flush", count, gone: 0, ...(running && { running }) };
}

function waiting({ pending, delayed, blocked }: OutboxStats): number {
  return pending + delayed + blocked;
}
