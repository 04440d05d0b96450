/** Several destinations on the model, with crashes at the steps of what happens to them. No chance. */
import { describe, expect, it } from "vitest";
import { size } from "../support/random.ts";
import { type Destination, played, type ReadersStory, type Step } from "./readers.ts";

const plain = { types: undefined, batchSize: 7, ordering: "strict" } as const satisfies Destination;
const large = { types: undefined, batchSize: 100, ordering: "batch" } as const satisfies Destination;
const some = { types: ["x"], batchSize: 7, ordering: "strict" } as const satisfies Destination;
const DESTINATIONS: ReadersStory["destinations"] = [plain, some, large, plain, plain];

const put = (count: number, key = 0, type = 0): Step => ({ do: "put", count, type, key, delay: 0 });
const later = (count: number, delay: number): Step => ({ do: "put", count, type: 0, key: 4, delay });
const mode = (destination: number, what: (Step & { do: "mode" })["mode"]): Step => ({ do: "mode", destination, mode: what });
const deploy = (version: number, without = 9): Step & { do: "deploy" } => ({ do: "deploy", without, version, isFaulty: false });
const wait = (seconds: number): Step => ({ do: "wait", seconds });

const SCENARIOS: Readonly<Record<string, readonly Step[]>> = {
  "all are well": [put(40), put(3, 4, 1), wait(3)],
  "one is down while the others pass a segment, and comes back": [mode(0, "throws"), put(40), wait(3), mode(0, "takes"), put(2), wait(40)],
  "one sets messages aside, with their keys": [mode(0, "retries some"), put(5, 4), put(5, 5), wait(3), mode(0, "takes"), wait(3)],
  "one rejects some, which are redriven there": [
    mode(1, "rejects some"),
    put(8),
    wait(1),
    mode(1, "takes"),
    { do: "redrive", destination: 1 },
    wait(1),
  ],
  "one is removed and comes back": [put(5), deploy(3, 1), put(40), wait(3), deploy(3), put(1), wait(3)],
  "deployments with other versions alternate": [
    deploy(3),
    put(4),
    put(2, 4),
    deploy(1),
    put(2, 4),
    put(1),
    wait(3),
    { ...deploy(2), isFaulty: true },
    wait(3),
    deploy(3),
    wait(3),
  ],
  "an upcaster fails for a message of a key": [
    { do: "pause", destination: 2 },
    put(12, 4),
    { ...deploy(2), isFaulty: true },
    { do: "resume", destination: 2 },
    wait(3),
  ],
  "one is paused, and a message is cancelled there": [
    { do: "pause", destination: 2 },
    put(6),
    wait(1),
    { do: "cancel", back: 2, destination: 2 },
    { do: "resume", destination: 2 },
    wait(1),
  ],
  "one hangs, and one is slow": [mode(0, "hangs"), mode(1, "slow"), put(9, 4), wait(40), mode(0, "takes"), put(2, 4), wait(3)],
  "an invocation has few subrequests": [{ do: "limit", subrequests: 5 }, put(9, 4), put(4), wait(3)],
  "one message is replaced while one destination is down": [
    mode(0, "throws"),
    { do: "replace", type: 0, id: 1, delay: 2, waits: true },
    { do: "replace", type: 0, id: 1, delay: 0, waits: true },
    wait(3),
    mode(0, "takes"),
  ],
  "what waits for a time is rolled back beside them": [later(3, 2), { do: "undo", count: 3, what: "cancel" }, mode(2, "throws"), wait(3)],
};

const WORLDS = (["sqlite", "kv"] as const).flatMap((backend) => [true, false].map((immediate) => ({ backend, immediate })));

/** A crash at one step in so many. VITE_SHARE=1: at every one. */
const STRIDE = Number((import.meta as unknown as { env: Record<string, string | undefined> }).env.VITE_SHARE ?? size(24, 2));

describe.each(WORLDS)("a crash at every step ($backend, immediate: $immediate)", ({ backend, immediate }) => {
  it.each(Object.entries(SCENARIOS))("leaves each destination what is its own: %s", async (_, steps) => {
    const tempo = backend === "kv" ? "joined" : "split";
    const dead = { deadMessage: backend === "kv", onDead: immediate ? "hold" : "continue" } as const;
    const settleWithinSeconds = backend === "kv" ? 1 : 0;
    const given = { backend, tempo, immediate, settleWithinSeconds, ...dead } as const;
    const story: ReadersStory = { ...given, destinations: DESTINATIONS, count: 3, steps };
    expect(await played(story)).toBeGreaterThan(50);
    for (let step = 1; ; step += STRIDE) {
      const passed = await played(story, [step]).catch((error: Error) => {
        error.message = `crash at step ${step}: ${error.message}`;
        throw error;
      });
      if (passed < step) return;
      // Lets the reporter speak.
      if (step % (50 * STRIDE) === 1) await new Promise((resolve) => setTimeout(resolve));
    }
  });
});
