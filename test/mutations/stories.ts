/** Mutations that nothing on the model but the random stories finds: each needs something that no scenario does. */
import { type Mutation, stories } from "./mutation.ts";

export const STORIES: readonly Mutation[] = [
  {
    name: "keeps in memory what an inner transaction has rolled back",
    file: "write/transaction.ts",
    within: "inTransaction",
    find: "if (!over) rollback();",
    replace: "if (!over && depth === 1) rollback();",
    finders: [stories],
  },
  {
    name: "leaves the tables when everything is deleted with a message",
    file: "write/delete-all.ts",
    within: "eraseSqlite",
    find: "dropAll(sql);",
    replace: "",
    finders: [stories],
  },
];
