/** The log over HTTP: the read path of the Durable Streams protocol 1.0, from the object itself or relayed by a worker. */

export { type RelayedLog, type RelayLogOptions, relayLog } from "./relay.js";
export { type RelayedClass, withLogRelay } from "./relayed.js";
export { type LogSource, type ServeLogOptions, serveLog } from "./serve.js";
