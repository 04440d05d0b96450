/** Crash enumeration on the model, on SQLite-backed objects. */
import { crashesOn } from "./crash.ts";

crashesOn("sqlite");
