/** Spans: a handler whose calls are spans of the runtime's own tracing, where it has that. */

import * as workers from "cloudflare:workers";
import { expected } from "../api/errors.js";
import { headerOf } from "../api/headers.js";
import { known } from "../api/known.js";
import type { OutboxDelivery, OutboxMessage } from "../api/message.js";

/** Options of `traced`, all optional. */
export interface TracedOptions {
  /** The name of the spans. Default `"outbox.deliver"`. */
  name?: string;
}

/** A handler of `sendMessages`, or of a destination. */
type Handler<M> = (messages: OutboxMessage<M>[], delivery: OutboxDelivery) => unknown;

/** The part of the runtime's tracing that is used: `tracing` of `cloudflare:workers`. */
interface Tracing {
  enterSpan<T>(name: string, callback: (span: { setAttribute(key: string, value: string | number): void }) => T): T;
}

/** So many messages name their traces. */
const MOST_TRACES = 10;

/**
 * Wraps a handler, so that each of its calls is a span with how many messages it had, the id of the first, its attempts, and the `traceparent` headers of
 * the first ten, each once. In a runtime without tracing the handler is called as it is. The runtime lets no span have a parent or a link of another
 * trace: find the spans of a trace by the attribute `outbox.traceparents`.
 *
 * @throws TypeError when the handler is no function, or an option is wrong
 *
 * @example
 * destinations = { billing: { send: traced(toWebhook(url, { secret }), { name: "billing" }) } };
 */
export function traced<M, H extends Handler<M>>(handler: H & Handler<M>, options: TracedOptions = {}): H {
  if (typeof handler !== "function") throw expected("handler", "a function", handler);
  const { name = "outbox.deliver" } = known("options", options, ["name"]);
  if (typeof name !== "string" || !name) throw expected("options.name", "a name", name);
  const wrapped = function (this: unknown, messages: OutboxMessage<M>[], delivery: OutboxDelivery): unknown {
    const call = () => Reflect.apply(handler, this, [messages, delivery]);
    const tracing = Reflect.get(workers, "tracing") as Tracing | undefined;
    if (typeof tracing?.enterSpan !== "function") return call();
    return tracing.enterSpan(name, (span) => {
      const [first] = messages;
      const traces = new Set(messages.flatMap(({ headers }) => headerOf(headers, "traceparent") ?? []));
      span.setAttribute("messaging.system", "do-transactional-outbox");
      span.setAttribute("messaging.batch.message_count", messages.length);
      if (first) span.setAttribute("messaging.message.id", first.id);
      if (first) span.setAttribute("outbox.attempts", first.attempts);
      if (traces.size > 0) span.setAttribute("outbox.traceparents", [...traces].slice(0, MOST_TRACES).join(" "));
      return call();
    });
  };
  // Whether a call may hold several messages of one ordering key is the handler's to say.
  Object.defineProperty(wrapped, "ordering", { get: () => (handler as { ordering?: unknown }).ordering });
  return wrapped as unknown as H;
}
