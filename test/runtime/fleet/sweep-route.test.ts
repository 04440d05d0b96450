/** The route of a sweep: it answers in time, whatever its objects do. */
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { sweepRoute } from "../../../src/fleet/sweep-route.ts";

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

it("a hundred objects that do not answer are told within two minutes, and those that do are woken", async () => {
  const asked: string[] = [];
  const wakeOutbox = (name: string) => {
    asked.push(name);
    return name.startsWith("well") ? Promise.resolve({ waiting: 1, dead: 0, nextAttemptAt: null }) : new Promise(() => {});
  };
  const id = (name: string) => name as unknown as DurableObjectId;
  const namespace = { idFromName: id, idFromString: id, get: (name: DurableObjectId) => ({ wakeOutbox: () => wakeOutbox(`${name}`) }) };
  const route = sweepRoute({ namespaces: { ORDERS: namespace }, authorize: () => true });
  const names = [...Array.from({ length: 40 }, (_, n) => `well-${n}`), ...Array.from({ length: 60 }, (_, n) => `hung-${n}`)];
  const body = JSON.stringify({ namespace: "ORDERS", names });
  const answer = route(new Request("https://sweep.test/wake", { method: "POST", headers: { "content-type": "application/json" }, body }));
  let response: Response | undefined;
  void answer.then((each) => {
    response = each;
  });
  for (let seconds = 0; seconds < 115 && !response; seconds++) await vi.advanceTimersByTimeAsync(1000);
  if (!response) throw new Error("There is no answer.");
  const { results } = (await response.json()) as { results: { id: string; waiting?: number; error?: string }[] };
  expect(results.map((each) => each.id)).toEqual(names);
  expect(results.filter(({ waiting }) => waiting === 1)).toHaveLength(40);
  // Six at a time, 20 s each: none begins after 90 s.
  expect(asked.filter((name) => name.startsWith("hung"))).toHaveLength(30);
  expect(new Set(results.slice(40).map(({ error }) => error))).toEqual(
    new Set(["The object has not answered within 20 s.", "Others have taken more than 90 s: wake it again."]),
  );
});
