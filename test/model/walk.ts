/** A walk over a state in pages, while things change: what was there all the time is visited once. */

import type { Found } from "./durable.ts";
import { type Effect, type Step, take } from "./steps.ts";
import type { Story } from "./story.ts";

type State = "pending" | "delayed" | "dead";

interface Walk {
  readonly state: State;
  readonly limit: number;
  /** What is asked between the pages, in turn. */
  readonly between: readonly Step[];
}

/** More pages than there are messages, and round again. */
const MOST_PAGES = 300;

export async function walk(story: Story, { state, limit, between }: Walk): Promise<void> {
  const effects: Effect[] = [];
  const steps = [...between];
  const done = await story.act(async (outbox, storage) => {
    const visited: number[] = [];
    let always: Set<number> | undefined;
    const see = (): void => {
      const there = labelsIn(story, state);
      always = always ? always.intersection(there) : there;
    };
    for (let after: string | undefined, pages = 0; pages < MOST_PAGES; pages++) {
      see();
      const page = await outbox.list({ state: state as "pending", limit, ...(after !== undefined && { after }) });
      see();
      visited.push(...page.map(({ msg }) => msg.n));
      after = page.at(-1)?.id;
      if (page.length < limit || after === undefined) break;
      const step = steps.shift();
      if (!step) continue;
      const taken = take(story, step, { outbox, storage });
      effects.push(taken.effect);
      await taken.ended;
    }
    if (new Set(visited).size < visited.length) story.wrong.push(`a walk over ${state} visited one twice: ${visited}`);
    const missed = [...(always ?? [])].filter((label) => !visited.includes(label));
    if (missed.length > 0) story.wrong.push(`a walk over ${state} missed ${missed}, and visited ${visited}`);
    return true;
  });
  for (const effect of effects) {
    if (done) effect.kept();
    else effect.unknown();
  }
}

/** What is in a state, wherever its row is. */
function labelsIn(story: Story, state: State): Set<number> {
  const { pending, dead } = story.view();
  const now = story.world.loop.clock;
  const isLate = ({ kind, due }: Found): boolean => kind === "k" || due > now;
  // What was delivered and is not recorded yet may be known as delivered.
  const unrecorded = story.unrecorded();
  const waits = pending.filter(({ label }) => !unrecorded.has(label));
  const found = state === "dead" ? dead : waits.filter((message) => isLate(message) === (state === "delayed"));
  return new Set(found.map(({ label }) => label));
}
