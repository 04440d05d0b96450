/** The worker: the contestants without a framework, as they are and with a storage that counts, and the handler that asks all of them. */

import type { Costs, Destination, JobName } from "../words.ts";
import { OursEvents, OursEventsChecked } from "./events.ts";
import { OursTo1, OursTo2, OursTo5, OursTo10 } from "./fan.ts";
import { HandKv, HandSql } from "./hand.ts";
import { counted } from "./ledger.ts";
import { HandLog, OursLog } from "./log.ts";
import { Ours, OursChecked, OursImmediate, OursSettled, OursSync, OursValibot } from "./ours.ts";
import { DualWrite, RawPair, RawState } from "./raw.ts";
import type { Contestant } from "./work.ts";

export { Sink } from "./sink.ts";
export {
  DualWrite,
  HandKv,
  HandLog,
  HandSql,
  Ours,
  OursChecked,
  OursEvents,
  OursEventsChecked,
  OursImmediate,
  OursLog,
  OursSettled,
  OursSync,
  OursTo1,
  OursTo2,
  OursTo5,
  OursTo10,
  OursValibot,
  RawPair,
  RawState,
};

export const CountedDualWrite = counted(DualWrite);
export const CountedHandKv = counted(HandKv);
export const CountedHandLog = counted(HandLog);
export const CountedHandSql = counted(HandSql);
export const CountedOurs = counted(Ours);
export const CountedOursImmediate = counted(OursImmediate);
export const CountedOursLog = counted(OursLog);
export const CountedOursSync = counted(OursSync);
export const CountedOursTo1 = counted(OursTo1);
export const CountedOursTo2 = counted(OursTo2);
export const CountedOursTo5 = counted(OursTo5);
export const CountedOursTo10 = counted(OursTo10);

/** What a class that counts, or is paced, can be asked for besides its work. */
interface Asked extends Contestant {
  costs(): Promise<Costs>;
  settled(): Promise<void>;
  steady(count: number, everyMs: number): Promise<Costs>;
}

export default {
  /** `/<class>/<job>/<count>/<destination>/<object>`: one request, one piece of work inside the object. */
  async fetch(request, env) {
    const [name = "", job = "", count = "0", to = "nothing", object = "bench"] = new URL(request.url).pathname.slice(1).split("/");
    const namespace = env[name] as DurableObjectNamespace<Asked>;
    const stub = namespace.get(namespace.idFromName(object));
    if (job === "costs") return Response.json(await stub.costs());
    if (job === "steady") return Response.json(await stub.steady(Number(count), Number(to)));
    if (job === "socket") return stub.fetch(request);
    if (job === "settled") {
      await stub.settled();
      return new Response(null);
    }
    const stream = await stub.job(job as JobName, Number(count), to as Destination);
    return new Response(stream ?? null);
  },
  async queue() {},
} satisfies ExportedHandler<Record<string, unknown>>;
