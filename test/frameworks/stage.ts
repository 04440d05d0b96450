/** The stage of one object: what a test scripts for it and sees of it. It stands beside the object, and so survives its lives. */
import type { OutboxManager, OutboxMessage, OutboxOptions } from "../../src/index.ts";

/** The env of every class here, as it is when the class is wrapped. */
export interface OutboxEnv {
  OUTBOX_MANAGER: OutboxManager;
}

/** What every class here is, whichever its framework. */
export interface Staged {
  readonly outbox: OutboxManager;
}

/** Something that a framework has done in an object: called back, started, stopped. */
export interface Note {
  readonly what: string;
  readonly detail: unknown;
  readonly at: number;
}

export interface Stage {
  /** Every call of `sendMessages`, in order, over all lives of the object. */
  readonly calls: OutboxMessage[][];
  /** The content of every message that the destination has taken, in order. */
  readonly taken: unknown[];
  /** What a call of `sendMessages` does: by default it succeeds. */
  destination: (outbox: OutboxManager) => unknown;
  /** What the framework has done, over all lives of the object. */
  readonly notes: Note[];
  /** What the framework's callbacks do in the object, besides noting that they were called. */
  act: (self: Staged, state: DurableObjectState, what: string) => unknown;
}

const stages = new Map<string, Stage>();

export function stageOf({ id }: { readonly id: DurableObjectId }): Stage {
  const found = stages.get(id.toString());
  if (found !== undefined) return found;
  const stage: Stage = { calls: [], taken: [], destination: () => {}, notes: [], act: () => {} };
  stages.set(id.toString(), stage);
  return stage;
}

/** The `sendMessages` of every class here. */
export async function deliver(self: Staged, ctx: DurableObjectState, messages: OutboxMessage[]): Promise<void> {
  const stage = stageOf(ctx);
  stage.calls.push(structuredClone(messages));
  await stage.destination(self.outbox);
  stage.taken.push(...messages.map(({ msg }) => msg));
}

/** Notes that the framework has called back, and does what the test has scripted for that. */
export async function note(self: Staged, ctx: DurableObjectState, what: string, detail?: unknown): Promise<void> {
  const stage = stageOf(ctx);
  stage.notes.push({ what, detail, at: Date.now() });
  await stage.act(self, ctx, what);
}

/** Options that make failures quick: 0.1 s, doubling up to 1 s. */
export const options: OutboxOptions<"OUTBOX_MANAGER"> = {
  retry: { minDelaySeconds: 0.1, maxDelaySeconds: 1, jitter: 0 },
};
