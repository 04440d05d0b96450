/** The public names of the testing subpath: for tests in `@cloudflare/vitest-pool-workers`, and for nothing else. */

export { type DestinationCheck, destinationChecks } from "./destination-checks.js";
export type { CheckedDestination, DestinationEnd, DestinationSubject } from "./destination-trial.js";
export { advance, type Drained, type DrainOptions, drain } from "./drain.js";
export { type Crash, everyCrash } from "./every-crash.js";
export { caughtUp, expectNothing, type SentOptions, sent } from "./expectations.js";
export { type Failing, type FailingHandler, type Failures, failing, type HandledBy, type Handler } from "./failing.js";
export type { TestStub } from "./inside.js";
