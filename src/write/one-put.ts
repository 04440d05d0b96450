/** One put: what a call of the manager is to write, once its arguments have been checked. */

import type { EventMessage } from "../api/events.js";
import type { MessageMeta } from "../api/meta.js";
import type { Draft } from "../storage/message.js";

/** One put, checked. */
export interface Put {
  readonly entries: Record<string, unknown>;
  /** Those of the caller. */
  readonly keys: readonly string[];
  readonly now: number;
  readonly more: MessageMeta | undefined;
  readonly message: Draft;
  /** What the `stored` event says of the message, if anybody listens. */
  readonly about: EventMessage | undefined;
  readonly options: DurableObjectPutOptions | undefined;
  /** Keys to delete with it. */
  readonly deleted: string[] | undefined;
  /** Everything of the object's own is to be deleted with it. */
  readonly erased: true | undefined;
  /** It takes the place of a message of its id that no handler has had. */
  readonly replaces: boolean;
  /** The `sequence` that must be that of the last message. */
  readonly expectedSequence: number | undefined;
}
