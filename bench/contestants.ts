/** Who takes part: the name of each class, what it is called in tables, and what of the work it does. */

export const ENTRANTS = {
  RawState: "storage.put, state only",
  RawPair: "storage.put, state and message",
  DualWrite: "put, then send (unsafe)",
  HandKv: "hand-written, key-value",
  HandSql: "hand-written, SQL",
  Ours: "this package, put",
  OursChecked: "this package, put with a schema",
  OursValibot: "this package, put, Valibot schema",
  OursImmediate: "this package, immediate",
  OursSettled: "this package, settleWithinSeconds",
  OursSync: "this package, transactionSync",
  AgentQueue: "Agents SDK, queue()",
  AgentSchedule: "Agents SDK, schedule()",
  ActorAlarm: "Actors, alarms.schedule()",
  OursTo1: "this package, 1 named destination",
  OursTo2: "this package, 2 destinations",
  OursTo5: "this package, 5 destinations",
  OursTo10: "this package, 10 destinations",
  HandLog: "hand-written log, SQL",
  OursLog: "this package, retain",
  OursEvents: "this package, event sourcing",
  OursEventsChecked: "this package, event sourcing with a schema",
} as const satisfies Record<string, string>;

export type EntrantName = keyof typeof ENTRANTS;
