/** What an error of an RPC call means to its caller: for callers of inboxes. */

import { textOf, told } from "./errors.js";

/** The error of a call of `receiveMessages`, unchanged, or one that says what is missing if the object has no inbox. */
export function explained(error: unknown): unknown {
  const text = textOf(error);
  if (!/does not implement .*"receiveMessages"/.test(text)) return error;
  return new Error(told(`The object has no inbox: wrap its class with withTransactionalInbox(). ${text}`), { cause: error });
}
