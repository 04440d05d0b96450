/** The log over HTTP: the read path of the Durable Streams protocol 1.0. */

export { type LogSource, type ServeLogOptions, serveLog } from "./serve.js";
