/** The probes: what the tests of this isolate know about each object, across its restarts. */

import type { AlarmSlot } from "../alarm/slot.js";
import type { OutboxEvent } from "../api/events.js";
import type { OutboxMessage } from "../api/message.js";
import { type Probe, SEAM, type Seam } from "../api/seam.js";
import type { Store } from "../storage/store.js";
import type { Dispatch } from "../subscription/dispatch.js";
import type { Timers } from "../timers.js";
import { type CrashPlan, type NativeAlarm, nativeAlarm, watchStorage } from "./storage.js";
import { type TestTimers, timersIn } from "./timers.js";

/** The parts of one life of an object. */
export interface Life {
  readonly store: Store;
  readonly alarm: AlarmSlot;
  readonly delivery: Dispatch;
  readonly timers: TestTimers;
  readonly native: NativeAlarm;
  /** A call of the alarm that a test has begun, until it ends. */
  call: Promise<void> | null;
}

/** What is known about an object. */
export interface Watched {
  readonly id: string;
  /** The time on its clock, in milliseconds since the Unix epoch: it stands still until a test moves it. */
  now: number;
  /** What was delivered, in order. */
  readonly delivered: { readonly destination: string; readonly message: OutboxMessage }[];
  /** The message last handed over to each destination under each id. */
  readonly handed: Map<string, OutboxMessage>;
  /** How many messages became dead letters. */
  dead: number;
  /** How many of both `drain` has already reported. */
  told: { delivered: number; dead: number };
  /** How many more messages may be handed over; below 0, a call hangs. */
  room: number;
  /** A handler has been made to hang, and has not timed out. */
  hangs: boolean;
  /** When it last stored a message: the number of that event among all of the isolate. */
  storedAt: number;
  /** The commit at which it is to be aborted. */
  plan: CrashPlan | null;
  /** The parts of its last life. */
  life: Life | null;
}

interface TestSeam extends Seam {
  readonly objects: Map<string, Watched>;
  events: number;
}

/** One for the isolate, however often this module is evaluated: objects may outlive a test file. */
const seam: TestSeam = (globalThis as { [SEAM]?: TestSeam })[SEAM] ?? { objects: new Map(), events: 0, elapsedMs: 0, probe };
Object.assign(seam, { probe });
Object.assign(globalThis, { [SEAM]: seam });

/** Every object that a test has used, or that has started since the tests began. */
export function watched(id: DurableObjectId | string): Watched {
  const name = id.toString();
  const known = seam.objects.get(name);
  if (known) return known;
  const object: Watched = {
    ...{ id: name, now: Date.now(), delivered: [], handed: new Map(), dead: 0, told: { delivered: 0, dead: 0 } },
    ...{ room: Number.POSITIVE_INFINITY, hangs: false, storedAt: 0, plan: null, life: null },
  };
  seam.objects.set(name, object);
  return object;
}

/** The object whose handler is being called in this turn. */
let handling: Watched | null = null;

/** The handler that is being called never settles. */
export function hang(): Promise<never> {
  if (handling) handling.hangs = true;
  return new Promise(() => {});
}

/** Those that have stored a message since then. */
export function storedSince(event: number): Watched[] {
  return [...seam.objects.values()].filter(({ storedAt }) => storedAt > event);
}

/** The number of the last event. */
export function lastEvent(): number {
  return seam.events;
}

/** Lets time pass for code that belongs to no object. */
export function elapse(ms: number): void {
  seam.elapsedMs += ms;
}

function probe(state: object): Probe {
  const ctx = state as DurableObjectState;
  const object = watched(ctx.id);
  const native = nativeAlarm(ctx.storage);
  watchStorage(ctx, object);
  const aheadMs = (): number => object.now - Date.now();
  return {
    now: () => object.now,
    aheadMs,

    listener: (own) => (event) => {
      note(object, event);
      return own?.(event);
    },

    around(messages, delivery, handler, destination) {
      object.room -= messages.length;
      if (object.room < 0) return hang();
      for (const message of messages) object.handed.set(handedUnder(destination, message.id), structuredClone(message));
      handling = object;
      try {
        return handler(messages as never[], delivery);
      } finally {
        handling = null;
      }
    },

    attach(parts) {
      const { store, alarm, delivery, timers } = parts as Omit<Life, "timers"> & { timers: Timers };
      object.hangs = false;
      object.room = Number.POSITIVE_INFINITY;
      object.life = { store, alarm, delivery, native, timers: timersIn(timers, () => object.now), call: null };
      // The object's own code counts by the runtime's clock, and gets back the time that it has set.
      const { getAlarm, setAlarm } = alarm.methods;
      let set = { time: 0, given: 0 };
      alarm.methods.setAlarm = (given, options) => {
        set = { time: Math.trunc(Number(given) + aheadMs()), given: Math.trunc(Number(given)) };
        return setAlarm(set.time, options);
      };
      alarm.methods.getAlarm = async (options) => {
        const time = await getAlarm(options);
        return time === null ? null : time === set.time ? set.given : time - aheadMs();
      };
    },
  };
}

/** Under which name a message is remembered that was handed to a destination. */
function handedUnder(destination: string, id: string): string {
  return JSON.stringify([destination, id]);
}

function note(object: Watched, event: OutboxEvent): void {
  seam.events++;
  if (event.type === "stored") object.storedAt = seam.events;
  if (event.type === "dead") object.dead++;
  if (event.type !== "delivered") return;
  for (const id of event.ids) {
    const under = handedUnder(event.destination, id);
    const message = object.handed.get(under);
    if (message) object.delivered.push({ destination: event.destination, message });
    object.handed.delete(under);
  }
}
