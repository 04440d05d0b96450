/** The worker: the contestants without a framework, as they are and with a storage that counts, and the handler that asks all of them. */

import type { Destination, JobName } from "../words.ts";
import { HandKv, HandSql } from "./hand.ts";
import { counted } from "./ledger.ts";
import { Ours, OursChecked, OursImmediate, OursSync } from "./ours.ts";
import { DualWrite, RawPair, RawState } from "./raw.ts";
import type { Contestant } from "./work.ts";

export { Sink } from "./sink.ts";
export { DualWrite, HandKv, HandSql, Ours, OursChecked, OursImmediate, OursSync, RawPair, RawState };

export const CountedRawState = counted(RawState);
export const CountedRawPair = counted(RawPair);
export const CountedDualWrite = counted(DualWrite);
export const CountedHandKv = counted(HandKv);
export const CountedHandSql = counted(HandSql);
export const CountedOurs = counted(Ours);
export const CountedOursChecked = counted(OursChecked);
export const CountedOursImmediate = counted(OursImmediate);
export const CountedOursSync = counted(OursSync);

export default {
  /** `/<class>/<job>/<count>/<destination>`: one request, one piece of work inside the object. */
  async fetch(request, env) {
    const [name = "", job = "", count = "0", to = "nothing"] = new URL(request.url).pathname.slice(1).split("/");
    const namespace = env[name] as DurableObjectNamespace<Contestant & { costs(): Promise<unknown>; settled(): Promise<void> }>;
    const stub = namespace.get(namespace.idFromName("bench"));
    if (job === "costs") return Response.json(await stub.costs());
    if (job === "settled") {
      await stub.settled();
      return new Response(null);
    }
    const stream = await stub.job(job as JobName, Number(count), to as Destination);
    return new Response(stream ?? null);
  },
  async queue() {},
} satisfies ExportedHandler<Record<string, unknown>>;
