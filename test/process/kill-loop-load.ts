/** The load of the kill loop: callers outside, each of which writes in a way of its own choice until the process is gone. */
import type { Life } from "./kill-loop-runtime.ts";
import { CLASSES, type ClassName, generator, type Way, type Written } from "./kill-loop-words.ts";

/** Callers of each object: with two, calls overlap. */
const CALLERS = 2;
const KEYS = ["a", "b", "c", "d"];

export interface Load {
  /** What was confirmed to a caller, and what a caller was told had been undone, by class. */
  readonly confirmed: Readonly<Record<ClassName, Set<number>>>;
  readonly undone: Readonly<Record<ClassName, Set<number>>>;
  /** What a caller was told that was neither an answer nor the end of the process. */
  readonly refused: string[];
  /** Requests that were made. */
  requests: number;
  /** Begins to write, and resolves after so many answers, or when the process is gone. */
  begin(life: Life, answers: number): Promise<void>;
  /** Lets no caller make another request in this life. */
  hold(): void;
  /** Resolves when every caller has seen that the process is gone. */
  over(): Promise<void>;
}

export function loadOf(seed: number): Load {
  const sets = (): Record<ClassName, Set<number>> =>
    Object.fromEntries(CLASSES.map((kind) => [kind, new Set<number>()])) as Record<ClassName, Set<number>>;
  // A generator for each caller: who comes first in time must not change what another one draws.
  const callers = CLASSES.flatMap((kind, n) =>
    Array.from({ length: CALLERS }, (_, i) => ({ kind, random: generator(seed + n * CALLERS + i), number: i, names: 0 })),
  );
  let running: Promise<unknown> = Promise.resolve();
  let held = false;

  async function write(caller: (typeof callers)[number], life: Life, answered: () => void): Promise<void> {
    const { kind } = caller;
    while (!held) {
      const way = wayOf(caller);
      load.requests++;
      let written: Written;
      try {
        written = await life.call<Written>(kind, "write", way);
      } catch (error) {
        if ("code" in (error as Error)) return;
        load.refused.push(`${kind} ${JSON.stringify(way)}: ${error}`);
        return;
      }
      for (const label of written.confirmed) load.confirmed[kind].add(label);
      for (const label of written.undone) load.undone[kind].add(label);
      answered();
    }
  }

  const load: Load = {
    confirmed: sets(),
    undone: sets(),
    refused: [],
    requests: 0,
    begin(life, answers) {
      held = false;
      let answered = 0;
      return new Promise((resolve) => {
        const count = (): void => {
          if (++answered >= answers) resolve();
        };
        running = Promise.all(callers.map((caller) => write(caller, life, count))).then(() => resolve());
      });
    },
    hold() {
      held = true;
    },
    async over() {
      await running;
    },
  };
  return load;
}

/** One request, by the caller's own luck. */
function wayOf(caller: { kind: ClassName; random: () => number; number: number; names: number }): Way {
  const { random } = caller;
  const sqlite = caller.kind.startsWith("Sqlite");
  const draw = random();
  const rest: { -readonly [K in keyof Way]: Way[K] } = { kind: "put", bytes: random() < 0.1 ? 3000 : Math.floor(random() * 200) };
  if (random() < 0.4) rest.key = KEYS[Math.floor(random() * KEYS.length)] ?? "a";
  if (random() < 0.15) rest.delaySeconds = random() * 0.3;
  // Whoever had no answer tries again with the same id: the one before may have been stored, or not.
  if (random() < 0.3) rest.id = `${caller.number}:${random() < 0.4 ? caller.names : ++caller.names}`;
  const end = (["return", "return", "throw", "rollback"] as const)[Math.floor(random() * 4)] ?? "return";
  if (draw < 0.35) return rest;
  const { id: _, ...nameless } = rest;
  if (draw < 0.55) return { ...nameless, kind: "burst", count: 1 + Math.floor(random() * 40) };
  if (draw < 0.7) return { ...rest, kind: "send" };
  if (draw < 0.73) return { ...rest, kind: "wide" };
  if (draw < 0.82) return { ...rest, kind: "delete" };
  if (draw < 0.91 || !sqlite) return { ...rest, kind: "transaction", end };
  return { ...rest, kind: "transactionSync", end };
}
