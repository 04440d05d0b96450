/** Mistakes in what consumers receive, and in what their leases mean. */
import { type Mutation, model, runtime } from "./mutation.ts";

const stories = model("pull");

export const PULL: readonly Mutation[] = [
  {
    name: "hands out what is leased",
    file: "subscription/pull.ts",
    within: "choose",
    find: "known.has(entry.position) || ",
    replace: "",
    finders: [runtime("pull", "to several consumers"), stories],
  },
  {
    name: "hands out a message behind a leased one of its key",
    file: "subscription/pull.ts",
    within: "choose",
    find: "busy.has(key) || ",
    replace: "",
    finders: [runtime("pull", "keeps the order of each key"), stories],
  },
  {
    name: "lets a lease settle that has expired",
    file: "subscription/pull.ts",
    within: "leaseOf",
    find: "if (lease && lease.expiresAt > store.now()) return lease;",
    replace: "if (lease) return lease;",
    finders: [runtime("pull", "settles nothing of that lease")],
  },
  {
    name: "moves what follows a message that stays into the lane of its key",
    file: "subscription/pull.ts",
    within: "keepInPlace",
    find: "if (key !== undefined) keys.add(key);",
    replace: "",
    finders: [runtime("pull", "waits for a time")],
  },
  {
    name: "moves what is leased",
    file: "subscription/pull.ts",
    within: "keepInPlace",
    find: "const positions = new Set(leased().map(({ position }) => position));",
    replace: "const positions = new Set<number>();",
    finders: [runtime("pull", "where it is")],
  },
  {
    name: "does not count a lease that expires",
    file: "subscription/pull.ts",
    within: "receive",
    find: "await expire();",
    replace: "",
    finders: [runtime("pull", "received too often")],
  },
  {
    name: "sets an alarm for what is pulled",
    file: "subscription/reader.ts",
    within: "waits",
    find: " && !isPulled",
    replace: "",
    finders: [runtime("pull", "sets no alarm")],
  },
  {
    name: "makes a dead letter of what is leased when it expires",
    file: "subscription/pull.ts",
    within: "receive",
    find: "if (batch) keepInPlace(batch, NOTHING_SETTLED);",
    replace: "",
    finders: [runtime("pull", "expire that is leased")],
  },
  {
    name: "sees nothing behind many messages that wait for a time",
    file: "subscription/pull.ts",
    within: "receive",
    find: "messages.length === 0 && batch !== null && seenThrough(batch) < store.memory.position",
    replace: "false",
    finders: [runtime("pull", "what is behind many messages")],
  },
  {
    name: "settles nothing that stands behind many others",
    file: "subscription/pull.ts",
    within: "find",
    find: "batch.entries.length < most",
    replace: "most > 0",
    finders: [runtime("pull", "what is behind many messages")],
  },
];
