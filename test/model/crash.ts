/** Crash enumeration: every scenario, with a crash at every step, and in the proof a second one at every step of the recovery from one in three. No chance. */
import { afterAll, describe, expect, it } from "vitest";
import { PROOF, size } from "../support/random.ts";
import { finish } from "./ending.ts";
import { SCENARIOS, type Scenario } from "./scenarios.ts";
import { Story } from "./story.ts";
import type { Choice } from "./world.ts";

const BACKENDS = ["sqlite", "kv"] as const;
const TEMPOS = ["split", "joined"] as const;

/** A second crash, at every step, follows one first crash in so many. VITE_SHARE=1: every one, which takes longer than the proof has for it. */
const SHARE = Number((import.meta as unknown as { env: Record<string, string | undefined> }).env.VITE_SHARE ?? size(150, 3));

/** A crash at one step in so many: at every one in the proof, and in the scenarios by turns elsewhere. */
const STRIDE = size(6, 1);
/** The same for the second crash. */
const SECOND_STRIDE = size(4, 1);

const counted = { single: 0, double: 0 };

interface Played {
  readonly wrong: readonly string[];
  readonly story: Story;
  /** How things stood after the last crash that was ordered. */
  readonly state: string;
}

/** How things stand is known from an earlier run, and so is what follows. */
class Known extends Error {}

/** @param known states from which everything has ended well */
async function played(scenario: Scenario, choice: Choice, known: Set<string> = new Set()): Promise<Played> {
  const { options, parameters, deadMessage, play, before } = scenario;
  const story = new Story({
    ...choice,
    ...(options && { options }),
    ...(parameters && { parameters }),
    ...(deadMessage && { deadMessage }),
  });
  let state = "";
  const { died } = story.world;
  story.world.died = (...how) => {
    died(...how);
    if (story.world.crashes !== choice.crashAt?.length) return;
    state = story.state();
    if (known.has(state)) story.world.loop.fail(new Known());
  };
  before?.(story);
  try {
    await play(story);
    const wrong = await finish(story);
    if (state) known.add(state);
    return { wrong, story, state };
  } catch (error) {
    if (error instanceof Known) return { wrong: [], story, state };
    return { wrong: [String((error as Error).stack)], story, state };
  }
}

/** Asserts that nothing is wrong; otherwise says where the crashes were. */
function expectWell({ wrong, story }: Played, choice: Choice): void {
  if (wrong.length === 0) return;
  const at = (choice.crashAt ?? []).map((step) => `${step} (${story.world.trace.slice(Math.max(0, step - 4), step).join(", ")})`);
  expect.fail(
    `crashes at ${at.join(" and ")}:\n${wrong.join("\n")}\n${story.happenings.map((happening) => JSON.stringify(happening)).join("\n")}`,
  );
}

/** Runs until a run comes to its end without its last crash. */
async function enumerate(scenario: Scenario, choice: Choice, number: number): Promise<void> {
  const seen = new Set<string>();
  const known = new Set<string>();
  for (let first = 1 + (number % STRIDE); ; first += STRIDE) {
    const once = { ...choice, crashAt: [first] };
    const one = await played(scenario, once);
    expectWell(one, once);
    if (one.story.world.crashes === 0) return;
    counted.single++;
    // What is joined in one turn has fewer states than what is split: there a single crash is enough.
    if (choice.tempo === "joined") continue;
    // A crash before a read and one after it leave the same behind: what follows is the same as well.
    if (seen.has(one.state)) continue;
    seen.add(one.state);
    if (seen.size % SHARE !== 1 % SHARE) continue;
    for (let second = first + 1 + (number % SECOND_STRIDE); ; second += SECOND_STRIDE) {
      const twice = { ...choice, crashAt: [first, second] };
      const two = await played(scenario, twice, known);
      expectWell(two, twice);
      if (two.story.world.crashes < 2) break;
      counted.double++;
    }
    // Lets the reporter speak.
    await new Promise((resolve) => setTimeout(resolve));
  }
}

/** What is joined in one turn has fewer states than what is split: outside of the proof every other scenario does it on the other backend. */
function playedIn({ backend, tempo }: Pick<Choice, "backend" | "tempo">, { only }: Scenario, number: number): boolean {
  if (only !== undefined) return only === backend;
  return PROOF || tempo === "split" || backend === BACKENDS[number % 2];
}

/** Declares the crashes of every scenario on one backend. Each is a file of its own, so that they run side by side. */
export function crashesOn(backend: Choice["backend"]): void {
  describe.each(TEMPOS.map((tempo) => ({ backend, tempo })))("crashes ($backend, $tempo)", (world) => {
    it.each(SCENARIOS.filter((scenario, number) => playedIn(world, scenario, number)))(
      "leave every invariant standing: $title",
      async (scenario) => {
        const number = SCENARIOS.indexOf(scenario);
        const choice: Choice = { ...world, seed: 1 };
        const calm = await played(scenario, choice);
        expectWell(calm, choice);
        await enumerate(scenario, choice, number);
      },
    );
  });

  afterAll(() => {
    console.log(`crash points run on ${backend}: ${counted.single}, and ${counted.double} with a second crash during recovery`);
  });
}
