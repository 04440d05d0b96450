/** Objects that the inspector looks at: with an outbox around the wrapper and within it, an inbox, two destinations and a log. */
import { DurableObject } from "cloudflare:workers";
import { withTransactionalInbox } from "../../../src/inbox/index.ts";
import {
  type OutboxDelivery,
  type OutboxManager,
  type OutboxMessage,
  type OutboxOptions,
  withTransactionalOutbox,
} from "../../../src/index.ts";
import { type InspectedObject, withInspector } from "../../../src/inspector/index.ts";

type Rest = (messages: OutboxMessage[], delivery: OutboxDelivery) => unknown;

/** What a test scripts for one object, and sees of it. It stands beside the object, and so survives it. */
interface Stage {
  readonly calls: OutboxMessage[][];
  /** What the handlers of all destinations do: by default they succeed. */
  rest: Rest;
  /** The class has lost its destination `other`, from the object's next life on. */
  isShrunk: boolean;
}

const stages = new Map<string, Stage>();

export function stageFor(id: DurableObjectId): Stage {
  const stage = stages.get(id.toString()) ?? { calls: [], rest: () => {}, isShrunk: false };
  stages.set(id.toString(), stage);
  return stage;
}

class Target extends DurableObject<{ OUTBOX_MANAGER: OutboxManager }> {
  destinations = stageFor(this.ctx.id).isShrunk
    ? {}
    : { other: { types: ["other"], send: (messages: OutboxMessage[], delivery: OutboxDelivery) => this.sendMessages(messages, delivery) } };

  get outbox(): OutboxManager {
    return this.env.OUTBOX_MANAGER;
  }

  async sendMessages(messages: OutboxMessage[], delivery: OutboxDelivery): Promise<void> {
    const { calls, rest } = stageFor(this.ctx.id);
    calls.push(messages);
    await rest(messages, delivery);
  }

  receiveMessage(): void {}

  override alarm(): void {}
}

const OPTIONS = {
  retain: "all",
  retry: { minDelaySeconds: 0.1, maxDelaySeconds: 1, jitter: 0 },
  timeoutSeconds: 600,
} satisfies OutboxOptions;

export type Inspected = Target & InspectedObject;
type Class = new (ctx: DurableObjectState, env: never) => Inspected;

export const SqliteInspected: Class = withInspector(
  withTransactionalInbox(withTransactionalOutbox(class extends Target {}, OPTIONS)),
) as never;
export const KvInspected: Class = withTransactionalOutbox(withTransactionalInbox(withInspector(class extends Target {})), OPTIONS) as never;
/** It can be asked, and has nothing to say. */
export const NoOutbox: Class = withInspector(class extends Target {}) as never;
