/** Crash enumeration on the model, on KV-backed objects. */
import { crashesOn } from "./crash.ts";

crashesOn("kv");
