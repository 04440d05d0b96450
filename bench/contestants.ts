/** Who takes part: the name of each class, what it is called in tables, and what of the work it does. */

export const ENTRANTS = {
  RawState: "storage.put, state only",
  RawPair: "storage.put, state and message",
  DualWrite: "put, then send (unsafe)",
  HandKv: "hand-written, key-value",
  HandSql: "hand-written, SQL",
  Ours: "this package, put",
  OursChecked: "this package, put with a schema",
  OursImmediate: "this package, immediate",
  OursSync: "this package, transactionSync",
  AgentQueue: "Agents SDK, queue()",
  AgentSchedule: "Agents SDK, schedule()",
  ActorAlarm: "Actors, alarms.schedule()",
} as const satisfies Record<string, string>;

export type EntrantName = keyof typeof ENTRANTS;
