/** How the destination fares, and which messages are under suspicion: pure steps from one state to the next. */

/** The object's own alarm, while the outbox has the platform's one slot. */
export interface OwnAlarm {
  /** When the object asked to be woken, in milliseconds since the Unix epoch. */
  readonly time: number;
  /** When it is to be called: later than `time` only while it is retried. */
  readonly due: number;
  /** How often it has thrown. */
  readonly retryCount: number;
}

/** The breaker, which is open while `failures` is above 0, and the search for a message that breaks its batch. */
export interface Trouble {
  /** Failed calls of `sendMessages` in a row, those included that died with their isolate. */
  readonly failures: number;
  /** No attempt before this time, in milliseconds since the Unix epoch; 0 when all is well. */
  readonly retryAt: number;
  /** So many messages at the head hold the one that breaks its batch, if one does. */
  readonly suspects: number;
  /** Something was delivered since the search began: so the destination is not down. */
  readonly proven: boolean;
  /** How often the head failed alone and another message was tried, to see whether it is the head or the destination. */
  readonly controls: number;
  /** A run that saw an earlier one die has begun, and has not ended. */
  readonly lease: boolean;
  /** The position of the message that this run, under a lease, hands over alone; or 0. */
  readonly alone: number;
  /** Up to which positions of the queue messages were handed over in vain, and how often: newest last. */
  readonly vain: readonly (readonly [through: number, times: number])[];
}

export const CALM: Trouble = {
  failures: 0,
  retryAt: 0,
  suspects: 0,
  proven: false,
  controls: 0,
  lease: false,
  alone: 0,
  vain: [],
};

/** How often a message of the queue may have been handed over: never too few. */
export function tried({ vain }: Trouble, position: number): number {
  return vain.length === 0 ? 0 : vain.reduce((sum, [through, times]) => sum + (position <= through ? times : 0), 0);
}

/** Counts an attempt for the messages of the queue up to a position. Those up to `done` have left it. */
export function inVain({ vain }: Trouble, through: number, done: number): Pick<Trouble, "vain"> {
  const counted = vain.filter(([last]) => last > done);
  const newest = counted.at(-1);
  // Kept short: beyond so many steps the last ones count for each other, and so too many and never too few.
  const merged = newest && (newest[0] === through || counted.length >= MOST_STEPS);
  const step = merged ? ([Math.max(newest[0], through), newest[1] + 1] as const) : ([through, 1] as const);
  return { vain: through > done ? [...(merged ? counted.slice(0, -1) : counted), step] : counted };
}

/** Halving a thousand takes ten. */
const MOST_STEPS = 16;

/** Whether nothing of it matters but the attempts that it counted. */
export function isOver({ failures, suspects, lease }: Trouble): boolean {
  return failures === 0 && suspects === 0 && !lease;
}

/**
 * How many messages the next call gets at most. A batch that failed once is tried again as it is, because most failures
 * pass. From then on, half of those under suspicion.
 */
export function probeSize({ failures, suspects, proven, lease }: Trouble, batchSize: number): number {
  if (suspects === 0) return batchSize;
  const again = failures === 1 && !proven && !lease;
  return Math.min(batchSize, again ? suspects : Math.ceil(suspects / 2));
}

/**
 * After a call that failed.
 *
 * @param kept messages of the call that are kept
 * @param settled whether the call settled others before it failed
 */
export function afterFailure(trouble: Trouble, kept: number, settled: boolean, retryAt: number): Trouble {
  const { failures, proven } = trouble;
  return { ...trouble, failures: failures + 1, retryAt, suspects: kept, proven: proven || settled, lease: false, alone: 0 };
}

/** After the message that broke its batch has been found: all others go on at once. */
export function afterPoison({ vain }: Trouble): Trouble {
  return { ...CALM, vain };
}

/** After a call that delivered `sent` messages: the breaker closes at once, and the search goes on in what is left. */
export function afterSuccess({ suspects, vain }: Trouble, sent: number): Trouble {
  const left = Math.max(0, suspects - sent);
  return { ...CALM, vain, suspects: left, proven: left > 0 };
}
