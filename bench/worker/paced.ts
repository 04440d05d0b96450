/** The worker of steady rates that are counted: the contestants without a framework, by a clock that is moved on. */
import "./clock.ts";
import { HandKv, HandSql } from "./hand.ts";
import { Ours, OursImmediate, OursSettled } from "./ours.ts";
import { paced } from "./pace.ts";
import { DualWrite } from "./raw.ts";

export { default } from "./index.ts";
export { Sink } from "./sink.ts";

export const PacedDualWrite = paced(DualWrite);
export const PacedHandKv = paced(HandKv);
export const PacedHandSql = paced(HandSql);
export const PacedOurs = paced(Ours);
export const PacedOursImmediate = paced(OursImmediate);
export const PacedOursSettled = paced(OursSettled);
