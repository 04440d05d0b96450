/** After each file of tests that watch workerd from outside: files share a process, and so the modules of its harness. */
import { afterAll } from "vitest";
import { ended } from "./harness.ts";

afterAll(ended);
