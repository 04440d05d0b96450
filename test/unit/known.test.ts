/** Known options: which name an unknown one was probably meant to be. */
import { expect, it } from "vitest";
import { known } from "../../src/api/known.ts";
import { uncloneable } from "../../src/api/uncloneable.ts";

const NAMES = ["id", "key", "delaySeconds", "deliverAt", "expiresInSeconds", "headers", "maxAttempts", "retry", "batchSize"];

it("returns options as they are, where all of them are known", () => {
  const options = { id: "a", key: undefined };
  expect(known("options", options, NAMES)).toBe(options);
  expect(known("options", {}, [])).toEqual({});
});

it.each([
  ["delay", "delaySeconds"],
  ["delaySecs", "delaySeconds"],
  ["delayMs", "delaySeconds"],
  ["DELAYSECONDS", "delaySeconds"],
  ["dellaySeconds", "delaySeconds"],
  ["deliver_at", "deliverAt"],
  ["expiresIn", "expiresInSeconds"],
  ["header", "headers"],
  ["attempts", "maxAttempts"],
  ["retries", "retry"],
  ["batchSise", "batchSize"],
  ["batch", "batchSize"],
  ["Id", "id"],
  ["keys", "key"],
])("%s was meant to be %s", (given, meant) => {
  expect(() => known("options", { [given]: 1 }, NAMES)).toThrow(
    `Expected \`options\` to be free of unknown options, got "${given}": did you mean \`${meant}\`? Known options: ${NAMES.join(", ")}.`,
  );
});

it.each(["ttl", "priority", "", "n", "toString", "__proto__", "z".repeat(1e6)])("%.20s was meant to be none of them", (given) => {
  const options = JSON.parse(`{ ${JSON.stringify(given)}: 1 }`);
  const told = `got ${JSON.stringify(given.slice(0, 60))}. Known options: ${NAMES.join(", ")}.`;
  expect(() => known("options.retry", options, NAMES)).toThrow(told);
});

it.each([null, 1, "text", true])("%s is no options", (given) => {
  expect(() => known("options", given as never, NAMES)).toThrow(`Expected \`options\` to be an object, got ${JSON.stringify(given)}.`);
});

const reason = new Error("It could not be cloned.");
const fail = (): void => {};
const cycle: Record<string, unknown> = { fail };
cycle.self = cycle;

it.each<[string, unknown, string]>([
  ["itself", fail, "msg"],
  ["in an object", { a: { b: fail } }, "msg.a.b"],
  ["under a name that is none", { "order:1": { "": fail } }, 'msg["order:1"][""]'],
  ["in a list", { items: [1, 2, { done: fail }] }, "msg.items[2].done"],
  ["in a map, which is named as a whole", { tags: new Map([["a", [fail]]]) }, "msg.tags"],
  ["beside a cycle", { cycle }, "msg.cycle.fail"],
  ["behind a hole", Object.assign([], { 5: fail }), "msg[5]"],
  ["as a symbol", { a: Symbol("a") }, "msg.a"],
  [
    "behind a getter that throws",
    {
      get a(): never {
        throw new Error("no");
      },
      b: fail,
    },
    "msg",
  ],
])("a part that can't be cloned is named by its path: %s", (_, value, path) => {
  const error = uncloneable("msg", value, reason);
  expect(error.message).toMatch(`Expected \`${path}\` to be a value that can be cloned, got `);
  expect(error.message).toMatch(/: It could not be cloned\.$/);
  expect(error).toMatchObject({ name: "TypeError", cause: reason });
});

it("a value without end is followed so far", () => {
  const endless = (): object => Object.defineProperty({ fail }, "next", { get: endless, enumerable: true });
  expect(uncloneable("msg", Object.assign(endless(), { fail: 1 }), reason).message.length).toBeLessThan(2000);
});
