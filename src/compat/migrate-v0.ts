/** Adopting what version 0.1.0 of this package left behind: its messages, its tasks, and the alarm that it emulated. */

import type { OwnAlarmState } from "../storage/memory.js";
import { draft } from "../storage/message.js";
import type { Store } from "../storage/store.js";

/** Its messages, each bare under a ULID, which sorts by time. */
export const ORIGINAL: string = "__outgoing_msg::id::";
/** What its task manager kept: tasks, from some version on with an index by time, and the time of the object's own alarm. */
const TASKS = "$$_tasks";
const OWN_ALARM = "$$_tasks_alarm";
const TASK_BY_ID = "$$_tasks::id::";
const ALARM_TASK = `${TASK_BY_ID}alarm`;

/** Messages that move in one commit. They may be big. */
const STEP = 16;
const PAGE = 128;

interface Task {
  readonly type?: string;
  readonly context?: unknown;
  readonly scheduledAt?: number;
}

/**
 * Moves the messages to the queue, in their order. Goes on at the next start where a crash has ended it: each step is one
 * commit, and the header says that there are more.
 *
 * @param arm arms the outbox's wake-up, in the turn of the writes
 */
export async function adoptOriginal(store: Store, maxBytes: number, arm: () => unknown): Promise<void> {
  const { native, memory } = store;
  const alarm: OwnAlarmState = memory;
  const resumed = memory.adopting;
  const { keys, own, others } = await tasks(store);
  for (let start = ORIGINAL; ; ) {
    const page = await native.list({ start, end: `${ORIGINAL}\u{10FFFE}`, limit: STEP });
    const last = page.size < STEP;
    const rows: Record<string, unknown> = {};
    if (last && page.size + keys.length === 0 && !memory.adopting) return;
    memory.adopting = !last;
    let isAppended = false;
    for (const [key, msg] of page) {
      start = `${key}\0`;
      try {
        const message = draft("msg", msg, maxBytes, null);
        store.append(rows, message, putAt(key), undefined, store.takers(message));
        isAppended = true;
        rows[key] = undefined;
      } catch (error) {
        // It stays as it is: larger than a message may be here, by the little that goes with one.
        store.unreadable(key, error);
      }
    }
    if (last) {
      if (own) alarm.ownAlarm = { time: own, due: own, retryCount: 0 };
      // The alarm that starts the object was set for its tasks, too.
      if (keys.length > 0 && !others) memory.outboxAlarmAtRest = own ? Math.min(own - 1, Date.now()) : Date.now();
      for (const key of keys) rows[key] = undefined;
    }
    if (resumed || isAppended || store.undelivered() > 0) rows[memory.key] = store.header();
    if (store.undelivered() > 0) arm();
    else if (own) void native.setAlarm(own);
    else if (!others) void native.deleteAlarm();
    await store.write(rows);
    if (last) return;
  }
}

/** The keys of the tasks that were the outbox's, or the object's own alarm; the time of that, if it is still to come; and whether there are others. */
async function tasks({ native }: Store): Promise<{ keys: string[]; own: number; others: boolean }> {
  const keys: string[] = [];
  const alarms = new Set<unknown>();
  let own = 0;
  let others = false;
  for (let start = TASKS; ; ) {
    const page = await native.list({ start, end: `${TASKS}\u{10FFFE}`, limit: PAGE });
    const named = [...page.keys()].flatMap((key) => idIn(key) ?? []).map((id) => TASK_BY_ID + id);
    const byId = named.length > 0 ? await native.get(named) : new Map<string, unknown>();
    for (const [key, value] of page) {
      start = `${key}\0`;
      const id = idIn(key);
      const task = (id === undefined ? value : byId.get(TASK_BY_ID + id)) as Task | undefined;
      if (key === ALARM_TASK) own = Number(task?.scheduledAt);
      else if (task?.type === "ALARM") alarms.add(task.scheduledAt);
      // Its first version left the time behind when the alarm had fired, and the task when it was deleted.
      else if (key === OWN_ALARM && ((value as number) > Date.now() || alarms.has(value))) own ||= Number(value);
      const ours = key === OWN_ALARM || task?.type === "ALARM" || task?.context === "transactional_outbox";
      // A task that is the class's own stays, and an index row that leads to none goes.
      if (ours || (id !== undefined && !task)) keys.push(key);
      else others = true;
    }
    if (page.size < PAGE) return { keys, own, others };
  }
}

/** The task to which a row of the index leads. */
function idIn(key: string): string | undefined {
  return /^\$\$_tasks::alarm::\d+::id::(.*)$/s.exec(key)?.[1];
}

/** When the message was put: the first ten characters of a ULID are milliseconds, five bits each. */
function putAt(key: string): number {
  const digits = [...key.slice(ORIGINAL.length, ORIGINAL.length + 10)].map((digit) => CROCKFORD.indexOf(digit));
  return digits.length === 10 && !digits.includes(-1) ? digits.reduce((time, digit) => time * 32 + digit, 0) : Date.now();
}

const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
