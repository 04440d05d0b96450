import type { Destination } from "do-transactional-outbox/destinations";
import { type DestinationEnd, destinationChecks } from "do-transactional-outbox/testing";
import { afterEach, it, vi } from "vitest";

type Sms = { to: string; text: string };

/** The destination that docs/destinations.md shows. */
function toSms(gateway: string): Destination<Sms> {
  return async (messages, delivery) => {
    for (const { id, msg } of messages) {
      const response = await fetch(gateway, {
        method: "POST",
        headers: { "idempotency-key": id },
        body: JSON.stringify(msg),
        signal: delivery.signal,
      });
      await response.body?.cancel();
      if (response.ok) delivery.ack(id);
      else if (response.status === 422) delivery.reject(id, `The gateway does not know ${msg.to}.`);
      else throw new Error(`The gateway answered HTTP ${response.status}.`);
    }
  };
}

/** A gateway that keeps what it gets, and does as it is told. */
class Gateway implements DestinationEnd<Sms> {
  readonly destination: Destination<Sms> = toSms("https://gateway.example/sms");
  readonly taken: string[] = [];
  mood: "well" | "down" | "hanging" = "well";

  constructor() {
    vi.spyOn(globalThis, "fetch").mockImplementation(async (_, init) => {
      if (this.mood === "hanging") await new Promise((_, reject) => init?.signal?.addEventListener("abort", reject));
      if (this.mood === "down") return new Response(null, { status: 503 });
      if ((JSON.parse(String(init?.body)) as Sms).to === "nobody") return new Response(null, { status: 422 });
      this.taken.push(new Headers(init?.headers).get("idempotency-key") ?? "");
      return new Response(null, { status: 202 });
    });
  }

  received(): string[] {
    return this.taken;
  }
}

afterEach(() => vi.restoreAllMocks());

const checks = destinationChecks({
  make: () => new Gateway(),
  message: (n) => ({ to: "+441632960961", text: `message ${n}` }),
  refused: () => ({ to: "nobody", text: "" }),
  down: (gateway) => {
    gateway.mood = "down";
  },
  up: (gateway) => {
    gateway.mood = "well";
  },
  hang: (gateway) => {
    gateway.mood = "hanging";
  },
});

for (const { name, run } of checks) it(name, run);
