/** Handlers that are wrapped from outside and from inside, on the platform itself: every one is called once, through all that is around it. */
import type { Miniflare, MiniflareOptions } from "miniflare";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BACKENDS, type Backend, bundled, folder, launch, until } from "./harness.ts";

let miniflare: Miniflare;
let url: URL;

beforeAll(async () => {
  ({ miniflare, url } = await launch({
    modules: true,
    script: await bundled("wrapped.ts"),
    compatibilityDate: "2026-07-01",
    durableObjectsPersist: folder(),
    durableObjects: { SQLITE: { className: "Sqlite", useSQLite: true }, KV: { className: "Kv", useSQLite: false } },
  } as MiniflareOptions));
});

afterAll(() => miniflare.dispose());

interface Answer {
  readonly got?: unknown;
  readonly threw?: string;
}

async function call(backend: Backend, form: string, method: string, ...args: unknown[]): Promise<Answer> {
  const response = await fetch(new URL(`${backend}/${form}/${method}`, url), { method: "POST", body: JSON.stringify(args) });
  return (await response.json()) as Answer;
}

/** What stands around the class's own handlers, the outermost first. */
const FORMS: Record<string, string[]> = {
  Plain: [],
  PlainTurned: [],
  Properties: [],
  Subclass: ["wrapped"],
  SubclassTurned: ["wrapped"],
  SubclassOfProperties: ["wrapped"],
  SubclassTwice: ["outer", "wrapped"],
  Inside: ["wrapped"],
  InsideTurned: ["wrapped"],
  Between: ["wrapped"],
  BetweenTurned: ["wrapped"],
  OnAllSides: ["outer", "wrapped"],
  Proxied: ["wrapped"],
  ProxiedInside: ["wrapped"],
  ProxiedProperties: ["wrapped"],
  ProxiedBetween: ["wrapped"],
  ProxiedAlone: ["wrapped"],
  ProxiedAloneInside: ["wrapped"],
  Derived: [],
  DerivedTurned: [],
  Overriding: ["wrapped"],
  OverridingInside: ["wrapped"],
  Fielded: ["wrapped"],
  FieldedInside: ["wrapped"],
  FieldedBetween: ["wrapped"],
  Accessors: ["wrapped"],
  AccessorsInside: ["wrapped"],
  Readonly: ["wrapped"],
  ReadonlyInside: ["wrapped"],
  Replacing: [],
  ReplacingTurned: [],
  ReplacingAndWrapped: ["wrapped"],
  Late: ["wrapped"],
  Around: ["wrapped"],
  AroundInside: ["wrapped"],
  AroundBetween: ["wrapped"],
};

/** Here the platform itself calls a wrapper, whenever the alarm rings: also when it is the outbox's. */
const OUTERMOST = ["Fielded", "Readonly", "Around", "AroundInside", "AroundBetween"];

describe.each(BACKENDS)("on a %s-backed object", (backend) => {
  it.concurrent.each(Object.entries(FORMS))(
    "%s: every handler is called once, within its wrappers, and none over RPC",
    async (form, wrappers) => {
      expect(await call(backend, form, "go")).toEqual({ got: null });
      const envelope = { v: 1, id: "one", source: "test", sequence: 1, timestamp: 0, msg: 1 };
      expect(await call(backend, form, "receiveMessages", [envelope])).toEqual({ got: [{ id: "one", status: "processed" }] });
      const log = async () => (await call(backend, form, "log")).got as string[];
      await until(async () => (await log()).filter((what) => what.startsWith("own")).length === 3);
      for (const method of ["sendMessages", "receiveMessage", "alarm"]) {
        expect((await call(backend, form, method, [envelope])).threw).toMatch(/does not implement the method|is a reserved method/);
      }
      const around = (name: string) => (form.startsWith("Around") && name !== "alarm" ? [] : wrappers.map((tag) => `${tag} ${name}`));
      const noted = async (name: string) => (await log()).filter((what) => what.includes(name));
      expect(await noted("sendMessages")).toEqual([...around("sendMessages"), "own sendMessages of m, kept"]);
      expect(await noted("receiveMessage")).toEqual([...around("receiveMessage"), "own receiveMessage of one, kept"]);
      const alarms = await noted("alarm");
      if (!OUTERMOST.includes(form)) expect(alarms).toEqual([...around("alarm"), "own alarm, kept, number"]);
      expect(alarms.filter((what) => what.startsWith("own"))).toEqual(["own alarm, kept, number"]);
      expect(alarms).toEqual(expect.arrayContaining(around("alarm")));
    },
  );

  it("ReplacedAlarm: a field of a subclass in the place of the outbox's alarm is refused at once, because the platform would call it alone", async () => {
    const { threw } = await call(backend, "ReplacedAlarm", "go");
    expect(threw).toMatch(/^TypeError: \[do-transactional-outbox\] Expected `alarm` to be a method/);
  });
});
