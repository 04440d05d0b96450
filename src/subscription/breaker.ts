/** How the destination is doing, and which messages are under suspicion: pure steps from one state to the next. */

/** The breaker, which is open while `failures` is above 0, and the search for a message that breaks its batch. */
export interface Breaker {
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
  /** Up to which positions of the queue messages were handed over in vain, and how often, and from which on: the newest last. */
  readonly vain: readonly Vain[];
}

type Vain = readonly [through: number, times: number, from?: number];

export const CLOSED: Breaker = {
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
export function tried({ vain }: Breaker, position: number): number {
  return vain.length === 0
    ? 0
    : vain.reduce((sum, [through, times, from = 0]) => sum + (from <= position && position <= through ? times : 0), 0);
}

/** Counts an attempt for the messages of the queue from one position up to another. Those up to `done` have left it. */
export function inVain({ vain }: Breaker, through: number, done: number, from: number = 0): Pick<Breaker, "vain"> {
  const counted = vain.filter(([last]) => last > done);
  if (through <= done) return { vain: counted };
  const isSame = ([last, , first = 0]: Vain): boolean => last === through && first === from;
  const times = (counted.find(isSame)?.[1] ?? 0) + 1;
  const steps = [...counted.filter((step) => !isSame(step)), stepOf(through, times, from)].sort(([a], [b]) => a - b);
  // Kept short: the step that counts least joins the one above it, and so counts for too many messages and never for too few.
  if (steps.length > MOST_STEPS) {
    const least = Math.min(...steps.slice(0, -1).map(([, times]) => times));
    const at = steps.findIndex(([, times]) => times === least);
    const [[, few, first = 0], [last, more, second = 0]] = steps.slice(at, at + 2) as [Vain, Vain];
    steps.splice(at, 2, stepOf(last, few + more, Math.min(first, second)));
  }
  return { vain: steps };
}

function stepOf(through: number, times: number, from: number): Vain {
  return from > 0 ? [through, times, from] : [through, times];
}

/** Whether attempts are counted for messages that are still in the queue. */
export function isCounted({ vain }: Breaker, done: number): boolean {
  return vain.some(([through]) => through > done);
}

/** As many as the halving of a thousand takes, and some more. */
const MOST_STEPS = 16;

/** Whether nothing of it matters but the attempts that it counted. */
export function isOver({ failures, suspects, lease }: Breaker): boolean {
  return failures === 0 && suspects === 0 && !lease;
}

/**
 * How many messages the next call gets at most. A batch that failed once is tried again as it is, because most failures
 * pass. From then on, half of those under suspicion.
 */
export function probeSize({ failures, suspects, proven, controls, lease }: Breaker, batchSize: number): number {
  if (suspects === 0) return batchSize;
  const again = failures === 1 && !proven && !lease && controls === 0;
  return Math.min(batchSize, again ? suspects : Math.ceil(suspects / 2));
}

/**
 * After a call that failed.
 *
 * @param kept messages of the call that are kept
 * @param settled whether the call settled others before it failed
 */
export function afterFailure(breaker: Breaker, kept: number, settled: boolean, retryAt: number): Breaker {
  const { failures, proven } = breaker;
  return { ...breaker, failures: failures + 1, retryAt, suspects: kept, proven: proven || settled, lease: false, alone: 0 };
}

/**
 * After the message that broke its batch has been found: all others go on at once. Until something is delivered, the next search knows that
 * there was one: it halves at once, and begins with another control.
 */
export function afterPoison({ vain, controls }: Breaker): Breaker {
  return { ...CLOSED, vain, controls: Math.max(1, controls) };
}

/** After a call that delivered `sent` messages: the breaker closes at once, and the search goes on in what is left. */
export function afterSuccess({ suspects, vain }: Breaker, sent: number): Breaker {
  const left = Math.max(0, suspects - sent);
  return { ...CLOSED, vain, suspects: left, proven: left > 0 };
}
