/** A steady rate, counted: puts so many milliseconds apart by a clock that is moved on, with the timers and alarms that ring in between. */
import type { Costs } from "../words.ts";
import { clock } from "./clock.ts";
import { type Class, counted, ledgers, shadow } from "./ledger.ts";
import type { Contestant } from "./work.ts";

/** Messages before the first that counts: tables are made, and the alarm finds its rhythm. */
const BEFORE = 20;
/** Turns of the event loop in which everything is durable and nothing happens: then all that follows from what was done has happened. */
const QUIET_TURNS = 2;
/** After the last message, in milliseconds: by then everything has been delivered. */
const AFTER_MS = 60_000;

/** The class with storage that counts, and with an alarm that rings by the clock. */
export function paced<C extends Class>(cls: C): C {
  const alarms = new WeakMap<object, Alarm>();
  const Paced = class extends (counted(cls) as Class) {
    constructor(ctx: DurableObjectState, env: never) {
      // Below the ledger.
      const alarm = alarmOf(ctx.storage);
      super(ctx, env);
      const { alarm: handler } = this;
      alarm.handler = handler && ((info) => handler.call(this, info));
      alarms.set(this, alarm);
    }

    async steady(count: number, everyMs: number): Promise<Costs> {
      const alarm = alarms.get(this);
      const ledger = ledgers.get(this);
      if (!alarm || !ledger) throw new Error("The object has no alarm that rings by the clock.");
      for (let n = 0; n < BEFORE + count; n++) {
        if (n === BEFORE) ledger.take();
        await (this as unknown as Contestant).job("one", n, "nothing");
        await advance(everyMs, alarm, ledger.sum);
      }
      const costs = ledger.take();
      await advance(AFTER_MS, alarm, ledger.sum);
      // Waits in vain for what was lost.
      await (this as unknown as Contestant).job("clean", 0, "nothing");
      return costs;
    }
  };
  return Paced as unknown as C;
}

/** Moves the clock on, and lets everything ring that is due by then. */
async function advance(ms: number, alarm: Alarm, sum: () => number): Promise<void> {
  for (const end = clock.now() + ms; ; ) {
    await quiet(alarm.durable, () => sum() + alarm.runs);
    if (alarm.error) throw alarm.error;
    const next = Math.min(clock.next(), alarm.dueAt());
    clock.move(Math.min(end, next));
    if (next > end) return;
    if (alarm.dueAt() <= next) alarm.ring();
    else clock.ring();
  }
}

async function quiet(durable: () => Promise<void>, sum: () => number): Promise<void> {
  for (let turns = 0, before = -1; turns < QUIET_TURNS; turns++) {
    await durable();
    await scheduler.wait(0);
    if (sum() !== before) turns = 0;
    before = sum();
  }
}

interface Alarm {
  /** When it rings: never while it is being handled, as one is at a time. */
  dueAt(): number;
  ring(): void;
  /** Resolves when everything that was written is durable. */
  durable(): Promise<void>;
  readonly runs: number;
  readonly error: Error | null;
  handler: ((info: AlarmInvocationInfo) => unknown) | undefined;
}

/** Takes the place of the object's alarm. */
function alarmOf(storage: DurableObjectStorage): Alarm {
  let time: number | null = null;
  let isRinging = false;
  let [runs, error]: [number, Error | null] = [0, null];
  shadow(storage, {
    async setAlarm(_, [at]) {
      time = Number(at);
    },
    getAlarm: async () => time,
    async deleteAlarm() {
      time = null;
    },
  });
  return {
    handler: undefined,
    durable: storage.sync.bind(storage),
    dueAt: () => (isRinging ? Number.POSITIVE_INFINITY : (time ?? Number.POSITIVE_INFINITY)),

    ring() {
      const scheduledTime = time ?? 0;
      [time, isRinging] = [null, true];
      const ended = (): void => {
        isRinging = false;
        runs++;
      };
      Promise.resolve(this.handler?.({ retryCount: 0, isRetry: false, scheduledTime } as AlarmInvocationInfo))
        .catch((cause: unknown) => {
          error = new Error("The alarm has failed.", { cause });
        })
        .finally(ended);
    },

    get runs() {
      return runs;
    },

    get error() {
      return error;
    },
  };
}
