/** Leaves out what is printed about what these tests do on purpose, such as damaging rows and aborting objects. Everything else is printed. */

const ON_PURPOSE: readonly RegExp[] = [
  /actor storage deserialization failed; .* key = \S*outbox\//,
  /broken\.outputGateBroken; jsg\.Error: (the crash that the test wants|destroyed)/,
  /^NOSENTRY SQLite alarm handler canceled with requestScheduledAlarm\./,
  /^NOSENTRY SQLite alarm overdue, running despite AlarmManager mismatch;/,
  // Vite, of packages that are published with source maps and without their sources.
  /Sourcemap for "[^"]*node_modules[^"]*" points to missing source files/,
];

/** The pool writes each of workerd's messages with a call of its own: errors to one stream, all others to the other. */
export default function setup(): () => void {
  const ends = [process.stdout, process.stderr].map((stream) => {
    const { write } = stream;
    stream.write = ((chunk: string | Uint8Array, ...rest: never[]) =>
      typeof chunk === "string" && ON_PURPOSE.some((known) => known.test(chunk))
        ? true
        : write.call(stream, chunk, ...rest)) as typeof write;
    return () => {
      stream.write = write;
    };
  });
  return () => {
    for (const end of ends) end();
  };
}
