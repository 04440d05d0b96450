/** Mistakes in what is kept of the log, and in how it is read. */
import { type Mutation, model, runtime } from "./mutation.ts";

const stories = model("log");

export const LOG: readonly Mutation[] = [
  {
    name: "reads a message whose put storage has refused",
    file: "log/log.ts",
    within: "log.retract",
    find: "else if (retention) memory.holes = [...memory.holes, position];",
    replace: "",
    finders: [stories],
  },
  {
    name: "yields what a transaction has rolled back",
    file: "log/read.ts",
    within: "committedPage",
    find: "if (!store.open && store.transactions === transactions && store.rollbacks === rollbacks && store.retractions === retractions)",
    replace: "",
    finders: [runtime("tail", "has rolled back"), stories],
  },
  {
    name: "yields what is not durable",
    file: "log/read.ts",
    within: "committedPage",
    find: "if (page.messages.length > 0) await durable();",
    replace: "",
    finders: [stories],
  },
  {
    name: "trims what a destination has yet to get",
    file: "operate/log.ts",
    within: "trim",
    find: ", ...floors",
    replace: "",
    finders: [runtime("retain", "yet to get")],
  },
  {
    name: "keeps nothing of the log",
    file: "log/log.ts",
    within: "isOver",
    find: "if (!retention || last <= memory.trimmedTo) return true;",
    replace: "return true;",
    finders: [runtime("log", "keeps everything"), stories],
  },
  {
    name: "keeps one message too few",
    file: "log/log.ts",
    within: "isOver",
    find: "memory.position - last >= retention.count",
    replace: "memory.position - last >= retention.count - 20",
    finders: [runtime("retain", "by count"), stories],
  },
  {
    name: "reads what has been trimmed",
    file: "log/log.ts",
    within: "log.earliest",
    find: "Math.max(log.start(), memory.trimmedTo) + 1",
    replace: "log.start() + 1",
    finders: [runtime("retain", "trim")],
  },
  {
    name: "forgets where the log was trimmed",
    file: "storage/header.ts",
    within: "FIELDS",
    find: "trimmedTo || undefined",
    replace: "undefined",
    finders: [runtime("retain", "trim")],
  },
  {
    name: "stores a message beside one that was not expected",
    file: "write/put.ts",
    within: "checkRoom",
    find: "expectedSequence !== actual",
    replace: "expectedSequence < actual - 1",
    finders: [runtime("expected-sequence"), stories],
  },
  {
    name: "checks what it expects before earlier puts",
    file: "write/put.ts",
    within: "commit",
    find: "if (!isKnown(found)) checkRoom(put.message, put.expectedSequence);",
    replace: "",
    finders: [runtime("expected-sequence")],
  },
];
