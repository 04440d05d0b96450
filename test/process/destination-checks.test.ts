/** The conformance kit, run from Node, against destinations in workerd with a real queue, real objects and a real server at their other end. */
import { afterAll, beforeAll, describe, it } from "vitest";
import type { OutboxDelivery, OutboxMessage } from "../../src/api/message.ts";
import { destinationChecks } from "../../src/testing/destination-checks.ts";
import type { CheckedDestination } from "../../src/testing/destination-trial.ts";
import { post, start, type World } from "./destinations-world.ts";

let world: World;
beforeAll(async () => {
  world = await start();
});
afterAll(() => world.stop());

type Ran = Awaited<ReturnType<World["run"]>>;

/** A destination that runs in workerd: gives here what it gives there. */
function remote(run: (messages: OutboxMessage[]) => Promise<Ran>): CheckedDestination {
  return async (messages: OutboxMessage[], delivery: OutboxDelivery) => {
    const { outcomes, error } = await run(messages);
    for (const { id, sequence } of messages) {
      const [, outcome, reason] = /^(\w+) ?(.*)$/.exec(outcomes[sequence] ?? "") ?? [];
      if (outcome === "ack") delivery.ack(id);
      if (outcome === "reject") delivery.reject(id, reason);
      if (outcome === "retry" || outcome === "wait") delivery.retry(id, { reason: outcome });
    }
    if (error) throw new Error(error.message);
  };
}

interface Numbered {
  readonly id: string;
}

const idsOf = (events: Numbered | Numbered[]): string[] => [events].flat().map(({ id }) => id);

/** The ids of what arrived at a path, but of what was refused there. */
function endpointWith(mode: "single" | "batch") {
  const name = crypto.randomUUID();
  let path = `/poison/${name}`;
  return {
    destination: remote((messages) => post(world, path, messages, { mode })),
    received: () => {
      const got = world.got.filter(({ path, body }) => path === `/poison/${name}` && !body.includes('"poison"'));
      return got.flatMap(({ body }) => idsOf(JSON.parse(body)));
    },
    down: (): void => {
      path = `/503/${name}`;
    },
    up: (): void => {
      path = `/poison/${name}`;
    },
  };
}

const toEndpoint = (mode: "single" | "batch") =>
  destinationChecks({
    make: () => endpointWith(mode),
    refused: () => ({ text: "poison" }),
    down: (end) => end.down(),
    up: (end) => end.up(),
  });

/** What the queue's consumer has got since now. */
async function queueEnd() {
  const before = (await world.look<unknown[]>("consumed")).length;
  return {
    destination: remote((messages) => world.run({ queue: {}, messages })),
    received: async () => idsOf((await world.look<Numbered[]>("consumed")).slice(before)),
  };
}

let inboxes = 0;

/** An inbox of its own, which messages are routed to by their text. */
function inboxEnd() {
  const text = `checked ${++inboxes}`;
  const msgOf = (msg: unknown) => ({ ...(msg as object), text });
  return {
    destination: remote((messages) => world.run({ inbox: true, messages: messages.map((each) => ({ ...each, msg: msgOf(each.msg) })) })),
    received: async () => {
      const taken = await world.look<{ inbox: string; envelope: Numbered }[]>("taken");
      return taken
        .filter(({ envelope }) => (envelope as unknown as { msg: { text: string } }).msg.text === text)
        .map(({ envelope }) => envelope.id);
    },
  };
}

describe.each([
  ["toWebhook to a real server", toEndpoint("single")],
  ["toWebhook in batches to a real server", toEndpoint("batch")],
  ["toQueue to a real queue", destinationChecks({ make: queueEnd, refused: () => "x".repeat(130_000) })],
  ["toDurableObject to real objects", destinationChecks({ make: inboxEnd, refused: () => ({ type: "inbox", order: "fail once" }) })],
] as const)("%s", (_, checks) => {
  for (const { name, run } of checks) it(name, run);
});
