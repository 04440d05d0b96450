/** Admission: brings a message from outside to the version that its handler knows, checks it, and tells what the schemas have refused. */

import type { OutboxEnvelope } from "../api/envelope.js";
import { expected } from "../api/errors.js";
import { type Arrived, arrived, type Schemas } from "../api/schemas.js";

/** Why the schemas do not let a message through. */
export type Refusal = "invalid_message" | "version_ahead";

export interface Admission {
  /** A message as its handler gets it. A promise only where its schema is async. @throws what is wrong with it. */
  admitted(envelope: OutboxEnvelope): OutboxEnvelope | Promise<OutboxEnvelope>;
  /** The same where nothing may wait. @throws TypeError as well, when its schema is async. */
  admittedSync(envelope: OutboxEnvelope): OutboxEnvelope;
  /** Why the schemas have not let a message through, if this is the error that says so. */
  refusalOf(error: unknown): Refusal | undefined;
}

/** @param schemas `null`: every message is let through as it is */
export function admissionOf(schemas: Schemas | null): Admission {
  /** What the schemas have thrown: what a handler sends may throw the same codes, and that says nothing of the message that has arrived. */
  const refusals = new WeakMap<object, Refusal>();

  function refused(error: unknown): never {
    const { code } = Object(error) as { code?: unknown };
    if (code === "invalid_message" || code === "version_ahead") refusals.set(error as object, code);
    throw error;
  }

  function admitted(envelope: OutboxEnvelope): OutboxEnvelope | Promise<OutboxEnvelope> {
    if (schemas === null) return envelope;
    const { version, ...rest } = envelope;
    const whole = (message: Arrived): OutboxEnvelope => ({ ...rest, ...message });
    try {
      const message = arrived(schemas, envelope.msg, version);
      return message instanceof Promise ? message.then(whole, refused) : whole(message);
    } catch (error) {
      return refused(error);
    }
  }

  return {
    admitted,

    admittedSync(envelope) {
      const message = admitted(envelope);
      if (!(message instanceof Promise)) return message;
      // What it would have said does not matter any more.
      message.catch(() => {});
      throw expected("options.messages", "schemas that are not async, for receiveSync()", message, undefined, ": call receive().");
    },

    refusalOf: (error) => (Object(error) === error ? refusals.get(error as object) : undefined),
  };
}
