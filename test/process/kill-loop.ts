/** The kill loop: load from outside on a workerd with its storage on disk, SIGKILL at random times, and what is found when all is quiet. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Load, loadOf } from "./kill-loop-load.ts";
import { type Life, owned, type Place, placeOf } from "./kill-loop-runtime.ts";
import { type Found, judge, type Verdict } from "./kill-loop-verdict.ts";
import { CLASSES, type ClassName, type Committed, type Dead, generator, type Line, TIMEOUT_MS } from "./kill-loop-words.ts";

/** A life that is not killed while it starts has so many answers at most before its time begins: something is written, however slow this machine is. */
const MOST_ANSWERS = 30;
/** From then on, or from the start of a life, to the kill: so many milliseconds at most. */
const LONGEST_MS = 50;
/** Shares of the lives that are killed while they start, that stand still for a while, and that are killed in the midst of delivery. The rest write. */
const STARTING = 0.15;
const STOPPED = 0.02;
const DELIVERING = 0.4;
/** A life that delivers is killed after so many calls of `sendMessages` at most, or after so many milliseconds. */
const MOST_SENDS = 40;
const DELIVERING_MS = 400;
/** How late the answers come to a process that stood still, in milliseconds. */
const LATE_MS = 50;
/** When all is quiet everything is delivered within this time, in milliseconds. */
const QUIET_MS = 180_000;

export interface LoopOptions {
  readonly kills: number;
  readonly seed: number;
  readonly progress?: (kills: number) => void;
}

/** What one story, or several, came to. */
export interface Report extends Verdict {
  readonly kills: number;
  /** Of the kills: while the process started, while it delivered, and after it had stood still. */
  readonly starting: number;
  readonly delivering: number;
  readonly stopped: number;
}

/** The receiver's process, and how it is told of what it can't see. */
interface Receiver {
  readonly port: number;
  mark(verb: "crash" | "hold" | "release" | "calm"): Promise<void>;
  /** Resolves when so many more calls have arrived, or the time is over. */
  sends(count: number, withinMs: number): Promise<void>;
  stop(): void;
}

async function receiverOf(log: string, seed: number): Promise<Receiver> {
  const child = owned(fork(fileURLToPath(new URL("kill-loop-receiver.ts", import.meta.url)), [log, String(seed)], { execArgv: [] }));
  const [port] = await once(child, "message");
  const post = async (path: string): Promise<void> => {
    await (await fetch(`http://127.0.0.1:${port}/${path}`, { method: "POST" })).arrayBuffer();
  };
  return {
    port,
    mark: post,
    sends: (count, withinMs) => Promise.race([post(`after/${count}`).catch(() => {}), pause(withinMs, undefined, { ref: false })]),
    stop: () => void child.kill(),
  };
}

/** One story: a fresh folder, so many kills, and a last life in which everything comes to rest. */
export async function killLoop({ kills, seed, progress = () => {} }: LoopOptions): Promise<Report> {
  const times = generator(seed);
  const classes = CLASSES.map((name) => ({ name, sqlite: name.startsWith("Sqlite") }));
  const worker = new URL("worker/kill-loop.ts", import.meta.url);
  let receiver: Receiver | undefined;
  let place: Place | undefined;
  try {
    // The receiver needs the folder for its log, and workerd the receiver's port.
    place = await placeOf(worker, classes);
    const log = join(place.folder, "receiver.log");
    receiver = await receiverOf(log, seed + 1);
    place.reaches(receiver.port);
    const load = loadOf(seed + 2);
    const counts = { starting: 0, delivering: 0, stopped: 0 };
    for (let number = 1; number <= kills; number++) {
      const end = endOf(times);
      if (end.by !== "load") counts[end.by]++;
      const life = place.start(number);
      await until(end, life, load, receiver);
      await life.end();
      await load.over();
      await receiver.mark("crash");
      progress(number);
    }
    await receiver.mark("calm");
    const found = await rest(place.start(kills + 1));
    const lines = readFileSync(log, "utf8").trimEnd().split("\n");
    return {
      kills,
      ...counts,
      ...judge(
        lines.map((line) => JSON.parse(line) as Line),
        found,
        load,
      ),
    };
  } finally {
    receiver?.stop();
    place?.remove();
  }
}

/** How a life comes to its end. */
interface End {
  readonly by: "starting" | "delivering" | "stopped" | "load";
  readonly answers: number;
  readonly afterMs: number;
  readonly sends: number;
}

/** Each life draws as many numbers as any other, so that one does not change the next. */
function endOf(times: () => number): End {
  const [chance, answers, share, sends] = [times(), times(), times(), times()];
  const by =
    chance < STARTING
      ? "starting"
      : chance < STARTING + STOPPED
        ? "stopped"
        : chance < STARTING + STOPPED + DELIVERING
          ? "delivering"
          : "load";
  return { by, answers: Math.ceil(answers ** 2 * MOST_ANSWERS), afterMs: share * LONGEST_MS, sends: Math.ceil(sends * MOST_SENDS) };
}

/** Lets a life go on until the time of its kill has come. */
async function until({ by, answers, afterMs, sends }: End, life: Life, load: Load, receiver: Receiver): Promise<void> {
  if (by === "starting") return pause(afterMs);
  await life.ready;
  await load.begin(life, answers);
  if (by === "delivering") {
    const sent = receiver.sends(sends, DELIVERING_MS);
    load.hold();
    await sent;
  }
  if (by === "stopped") await receiver.mark("hold");
  await pause(afterMs);
  if (by !== "stopped") return;
  life.signal("SIGSTOP");
  await pause(TIMEOUT_MS * 1.2);
  life.signal("SIGCONT");
  // The answers come after the call has run out of time.
  await pause(LATE_MS);
  await receiver.mark("release");
  await pause(afterMs * 4);
}

/** Waits until nothing waits any more, or gives up, and looks at what is stored. */
async function rest(life: Life): Promise<Record<ClassName, Found>> {
  try {
    await life.ready;
    const end = Date.now() + QUIET_MS;
    const found: Partial<Record<ClassName, Found>> = {};
    for (const kind of CLASSES) {
      while ((await life.call<number>(kind, "waiting")) > 0 && Date.now() < end) await pause(20);
      found[kind] = { ...(await life.call<Committed>(kind, "committed")), dead: await life.call<Dead[]>(kind, "dead") };
    }
    return found as Record<ClassName, Found>;
  } catch (error) {
    throw new Error(`The last life did not answer. ${life.log()}`, { cause: error });
  } finally {
    await life.end();
  }
}
