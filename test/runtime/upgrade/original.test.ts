/** The example of the original package, version 0.1.0, with its mistakes put right: it compiles as it is, and runs. */
import { expect, it } from "vitest";
import { type TOB_DurableObject, type TOB_Env, withTransactionalOutbox } from "../../../src/index.ts";
import { declared, eventually, inside, onBothBackends } from "../support/harness.ts";

interface Env extends TOB_Env {}

class MyDurableObject implements TOB_DurableObject {
  readonly storage: DurableObjectStorage;

  constructor(
    state: DurableObjectState,
    protected readonly env: Env,
  ) {
    this.storage = state.storage;
  }

  async fetch(_request: Request): Promise<Response> {
    await this.env.OUTBOX_MANAGER.put("one", "first", "first");
    await this.env.OUTBOX_MANAGER.put({ two: "second", three: "third" }, { type: "multiples", blah: true });
    return new Response("stored");
  }

  // biome-ignore lint/suspicious/noExplicitAny: it is how the original's users wrote it.
  async sendMessages(messages: { id: string; msg: any }[]): Promise<void> {
    for (const { id, msg } of messages) await this.storage.put(`__msg::${id}`, msg);
  }
}

const Exported = withTransactionalOutbox(MyDurableObject);

onBothBackends("the original's example", (backend) => {
  it("stores its three values and sends its two messages", async () => {
    const stub = declared(backend, Exported);
    expect(await (await stub.fetch("http://object/")).text()).toBe("stored");
    const own = () => inside(stub, (_, __, { storage }) => storage.list({ end: "\u{10FFFF}" }));
    const sent = async () => [...(await own())].filter(([key]) => key.startsWith("__msg::"));
    await eventually(async () => (await sent()).length === 2);
    expect((await sent()).map(([, msg]) => msg)).toEqual(["first", { type: "multiples", blah: true }]);
    expect(Object.fromEntries(await own())).toMatchObject({ one: "first", two: "second", three: "third" });
    expect((await own()).size).toBe(5);
  });
});
