/** How a story ends: everything happens that will happen by itself, and every invariant is checked. */

import { broken } from "../invariants.ts";
import { ownKeys, readDisk } from "./durable.ts";
import type { Story } from "./story.ts";

/** Nothing that a story starts takes longer, in milliseconds. */
const LONGEST_MS = 400 * 86_400_000;

/** Lets everything happen that will happen by itself once the destination is well, and gives what is wrong: nothing, when all is well. */
export async function finish(story: Story): Promise<string[]> {
  const { world, destination } = story;
  destination.down = destination.hangs = false;
  destination.partial = 0;
  destination.poison.clear();
  destination.outcomes.clear();
  if (story.durable.header.paused) await story.surely((outbox) => outbox.resume());
  // Whoever has lost its alarm is found when it starts: not, if it dies before it has looked.
  for (let crashes = -1; story.lost && crashes !== world.crashes; ) {
    crashes = world.crashes;
    story.evict();
    await story.surely((outbox) => outbox.stats());
    await rest(story);
  }
  await rest(story);
  await checkFacts(story);
  await rest(story);
  story.durable = readDisk(world.disk);
  const { pending, dead, others, rows } = story.durable;
  for (const { label } of pending) story.wrong.push(`${label} waits for ever`);
  if (world.disk.alarm !== null) story.wrong.push("an alarm stands, and nothing waits");
  const known = others.filter((row) => !dead.some(({ label }) => row.endsWith(`"${story.named.get(label)}"`)));
  for (const row of known) story.wrong.push(`a row is left: ${row.slice(2)}`);
  if (rows - dead.length - others.length > 1)
    story.wrong.push(`${rows - dead.length - others.length} rows are left where one marker may be`);
  story.own.ended();
  const told = {
    promised: story.promised,
    happenings: story.happenings,
    dead: dead.map(({ label }) => label),
    batchSize: story.batchSize,
  };
  return [...new Set([...story.wrong, ...broken(told)])];
}

function rest({ world }: Story): Promise<void> {
  return world.loop.run(() => false, world.loop.now + LONGEST_MS);
}

/** What the object says of itself at the end, and what it holds. */
async function checkFacts(story: Story): Promise<void> {
  const { rows } = story.world.disk;
  const said = await story.surely(async (outbox, storage) => {
    const listed = await outbox.list({ state: "dead", limit: 1000 });
    return { stats: await outbox.stats(), listed: listed.map(({ msg }) => msg.n), alarm: await storage.getAlarm() };
  });
  const dead = story.durable.dead.map(({ label }) => label);
  const { pending, delayed, blocked, nextAttemptAt } = said.stats;
  if (pending || delayed || blocked || nextAttemptAt !== null) {
    story.wrong.push(`nothing waits, and stats() says ${JSON.stringify(said.stats)}`);
  }
  if (String(said.listed) !== String(dead) || said.stats.dead !== dead.length) {
    story.wrong.push(`dead letters ${dead} stand, ${said.listed} are listed, and stats() says ${said.stats.dead}`);
  }
  if (said.alarm !== null) story.wrong.push(`getAlarm() shows ${said.alarm}`);
  for (const key of story.confirmed) if (!rows.has(key)) story.wrong.push(`${key} was confirmed, and is gone`);
  for (const key of ownKeys(story.world.disk)) if (!/^(state|own):/.test(key)) story.wrong.push(`a key that nobody put: ${key}`);
}
