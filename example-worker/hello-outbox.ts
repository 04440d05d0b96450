/** Hello, outbox: each visit is counted by the visitor's object and reported to the guestbook, exactly once in effect, whatever crashes. */

import { DurableObject } from "cloudflare:workers";
import { type OutboxManager, type OutboxTransaction, withTransactionalOutbox } from "do-transactional-outbox";
import { toDurableObject } from "do-transactional-outbox/destinations";
import { type OutboxEnvelope, withTransactionalInbox } from "do-transactional-outbox/inbox";

type Visited = { type: "visited"; name: string };
type Env = { VISITOR: DurableObjectNamespace<Visitor>; GUESTBOOK: DurableObjectNamespace<Guestbook> };

class VisitorBase extends DurableObject<Env & { OUTBOX_MANAGER: OutboxManager<Visited> }> {
  async visit(name: string): Promise<number> {
    const visits = ((await this.ctx.storage.get<number>("visits")) ?? 0) + 1;
    // One write: there is no visit without its message, and no message without its visit.
    await this.env.OUTBOX_MANAGER.put("visits", visits, { type: "visited", name });
    return visits;
  }

  // An alarm calls this until the guestbook has the message.
  sendMessages = toDurableObject(this.env.GUESTBOOK, () => "guestbook");
}
export class Visitor extends withTransactionalOutbox(VisitorBase) {}

class GuestbookBase extends DurableObject<Env> {
  // Runs once per message: what it writes and the mark "seen" are one commit.
  async receiveMessage({ msg }: OutboxEnvelope<Visited>, txn: OutboxTransaction): Promise<void> {
    await txn.put(msg.name, ((await txn.get<number>(msg.name)) ?? 0) + 1);
  }

  async visits(): Promise<Record<string, number>> {
    return Object.fromEntries(await this.ctx.storage.list<number>());
  }
}
export class Guestbook extends withTransactionalInbox(GuestbookBase) {}

/** `curl -X POST http://localhost:8787/Ada` is a visit; `curl http://localhost:8787` shows the guestbook. */
export default {
  async fetch(request, env) {
    if (request.method !== "POST") return Response.json(await env.GUESTBOOK.getByName("guestbook").visits());
    const name = decodeURIComponent(new URL(request.url).pathname.slice(1)) || "somebody";
    return Response.json({ name, visits: await env.VISITOR.getByName(name).visit(name) });
  },
} satisfies ExportedHandler<Env>;
