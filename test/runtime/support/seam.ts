/** The seam of the testing subpath, for the files that test it: all others of the isolate run as in production, without. */
import { beforeAll } from "vitest";
import { SEAM, seam } from "../../../src/api/seam.ts";
import "../../../src/testing/index.ts";

const installed = seam();

/** Called by a file that tests the subpath: it has the seam until its end, where `each-file.ts` takes it away. */
export function seamed(): void {
  beforeAll(() => {
    Object.assign(globalThis, { [SEAM]: installed });
  });
}
