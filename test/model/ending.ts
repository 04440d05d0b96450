/** How a story ends: everything happens that will happen by itself, and every invariant is checked. */

import { broken } from "../support/invariants.ts";
import { ownKeys, readDisk } from "./durable.ts";
import { isSqlRow } from "./sql.ts";
import type { Story } from "./story.ts";

/** Nothing that a story starts takes longer, in milliseconds. */
const LONGEST_MS = 400 * 86_400_000;

/** More rounds than a story has messages of one key. */
const MOST_ROUNDS = 500;

/** Lets everything happen that will happen by itself once the destination is well, and gives what is wrong: nothing, when all is well. */
export async function finish(story: Story): Promise<string[]> {
  const { world, destination } = story;
  destination.down = destination.hangs = false;
  destination.partial = destination.pauses = 0;
  story.visits.length = 0;
  destination.poison.clear();
  destination.outcomes.clear();
  await story.closed();
  // A handler that is under way may pause it still.
  for (let rests = 0; rests < 2; rests++) {
    if (story.durable.header.paused) await story.surely((outbox) => outbox.resume());
    await recover(story);
    await rest(story);
  }
  // Some wait for a dead letter, and for nothing else: when it is put back, one that has expired meanwhile may hold the others.
  for (let rounds = 0; rounds < MOST_ROUNDS && story.durable.dead.some(({ holds }) => holds); rounds++) {
    await story.surely((outbox) => outbox.redrive());
    await recover(story);
    await rest(story);
  }
  await checkFacts(story);
  await rest(story);
  await forget(story);
  const { pending, dead, others, rows } = story.durable;
  for (const { label } of pending) story.wrong.push(`${label} waits for ever`);
  // One that the platform has lost costs nothing. It stays where an alarm was set before the one that fires, because the clock was set back in its call.
  if (world.disk.alarm !== null && (world.alarms.standing || !story.jumped)) story.wrong.push("an alarm stands, and nothing waits");
  for (const row of withoutLetter(story)) story.wrong.push(`a row is left: ${row.slice(2)}`);
  if (rows - dead.length - others.length > 1)
    story.wrong.push(`${rows - dead.length - others.length} rows are left where one marker may be`);
  if (story.registry) story.wrong.push(...story.registry.wrongIn(story.durable));
  story.own.ended();
  const told = {
    promised: story.promised,
    happenings: story.happenings,
    dead: dead.map(({ label }) => label),
    batchSize: story.batchSize,
    holds: story.options.onDead === "hold",
    recordsLater: story.recordsLater,
  };
  return [...new Set([...story.wrong, ...broken(told)])];
}

/**
 * An object that has lost its alarm finds that out when it starts: not, if it dies before it has looked. So it does where the clock was
 * turned back, and what is set now is not after the alarm that fires.
 */
async function recover(story: Story): Promise<void> {
  const { world } = story;
  for (let crashes = -1; (story.lost || (story.jumped && world.alarms.lost)) && crashes !== world.crashes; ) {
    crashes = world.crashes;
    story.evict();
    await story.surely((outbox) => outbox.stats());
    await rest(story);
  }
}

/** Rows of no message, but those of the ids of dead letters. */
function withoutLetter({ durable: { others, dead }, named }: Story): string[] {
  return others.filter((row) => !dead.some(({ label }) => row.endsWith(`"${named.get(label)}"`)));
}

/** The ids of what was delivered are remembered for a while, and forgotten with a delivery that comes after it, also when an object dies meanwhile. */
async function forget(story: Story): Promise<void> {
  story.durable = readDisk(story.world.disk);
  for (let tries = 0; tries < 3 && withoutLetter(story).length > 0; ) {
    const { crashes } = story.world;
    await story.wait(LONGEST_MS / 1000);
    await story.put();
    await rest(story);
    story.durable = readDisk(story.world.disk);
    if (story.world.crashes === crashes) tries++;
  }
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
  for (const key of ownKeys(story.world.disk))
    if (!/^(state|own):/.test(key) && !isSqlRow(key)) story.wrong.push(`a key that nobody put: ${key}`);
}
