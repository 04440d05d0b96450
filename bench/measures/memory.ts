/** What an object has in memory while more and more messages wait in it: the heap of its isolate, which holds nothing else. */
import { once } from "node:events";
import { progress } from "../report.ts";
import type { Memory } from "../results.ts";
import type { Runtime } from "../runtime.ts";

/** Messages that are put in one turn. */
const STEP = 10_000;
/** Of the last steps, so many are looked at: the engine collects garbage when it likes, and the least is nearest to what is kept. */
const LOOKED_AT = 10;

/** @param runtime one that can be inspected, with this package alone */
export async function memory(runtime: Runtime, messages: number): Promise<Memory> {
  const usedMiB = await heapOf(runtime);
  await runtime.work("Ours", "pause");
  const used: number[] = [];
  for (let pending = STEP; pending <= messages; pending += STEP) {
    progress(`memory with ${pending.toLocaleString("en")} waiting`);
    await runtime.work("Ours", "puts", STEP);
    used.push(await usedMiB());
  }
  progress("");
  return { pending: used.length * STEP, leastMiB: Math.min(...used.slice(-LOOKED_AT)), mostMiB: Math.max(...used) };
}

/** What asks for the heap of the contestant's isolate, in MiB. */
async function heapOf(runtime: Runtime): Promise<() => Promise<number>> {
  const { host } = await runtime.inspector();
  const list = await fetch(`http://${host}/json`);
  const targets = (await list.json()) as { id: string; webSocketDebuggerUrl: string }[];
  const target = targets.find(({ id }) => id.includes("Ours"));
  if (!target) throw new Error("The contestant's isolate can't be inspected.");
  const socket = new WebSocket(target.webSocketDebuggerUrl);
  await once(socket, "open");
  let id = 0;
  return async () => {
    const asked = ++id;
    const answer = new Promise<number>((resolve) => {
      const hear = ({ data }: MessageEvent): void => {
        const { id, result } = JSON.parse(String(data));
        if (id !== asked) return;
        socket.removeEventListener("message", hear);
        resolve(result.usedSize / 2 ** 20);
      };
      socket.addEventListener("message", hear);
    });
    socket.send(JSON.stringify({ id: asked, method: "Runtime.getHeapUsage" }));
    return answer;
  };
}
