/** Progress: a bar where a person looks at it, and a line now and then where a file gets it. */

const BAR = 30;
/** Without a terminal a line is written no more often than this, in milliseconds. */
const LINE_MS = 10_000;

/** @param state with `done`, `total` and `failed` */
export function progressOf(state, out = process.stdout) {
  const begun = Date.now();
  const first = state.done;
  let lineAt = begun;

  function text() {
    const { done, total, failed } = state;
    const perMs = (done - first) / Math.max(1, Date.now() - begun);
    const left = perMs > 0 ? `, ${Math.ceil((total - done) / perMs / 1000)} s left` : "";
    return `${done} of ${total} objects${failed.length > 0 ? `, ${failed.length} failed` : ""}${left}`;
  }

  return {
    show() {
      if (out.isTTY) {
        const full = state.total > 0 ? Math.floor((BAR * state.done) / state.total) : BAR;
        out.write(`\r\u001b[2K[${"#".repeat(full)}${".".repeat(BAR - full)}] ${text()}`);
      } else if (Date.now() - lineAt >= LINE_MS) {
        lineAt = Date.now();
        out.write(`${text()}\n`);
      }
    },
    end() {
      if (out.isTTY) out.write("\r\u001b[2K");
    },
  };
}
