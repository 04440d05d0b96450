/** Schemas: what the option accepts, what a message becomes, and what is said of one that is wrong. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { OutboxError } from "../../src/api/errors.ts";
import { checked, schemasOf, ValidMessage, validated } from "../../src/api/schemas.ts";
import { accepting, schemaOf } from "../support/schema.ts";
import { drawn, LIBRARIES } from "../support/schemas.ts";
import { holds } from "./property.ts";

const option = (messages: unknown) => () => schemasOf("options.messages", messages);
const one = (schema: unknown) => schemasOf("options.messages", { a: schema });
const up = (old: object) => old;

/** The error that a call throws. */
function thrown(call: () => unknown): OutboxError {
  try {
    call();
  } catch (error) {
    return error as OutboxError;
  }
  return expect.fail("nothing was thrown");
}

describe("the option messages", () => {
  it("takes schemas as they are, also those that are functions, and with a version", () => {
    const callable = Object.assign(() => {}, accepting);
    const schemas = schemasOf("options.messages", {
      plain: accepting,
      callable,
      versioned: { schema: callable, version: 3, upcast: { 1: up, 2: up }, dataschema: "https://example.com/3" },
      first: { schema: accepting, version: undefined, upcast: {} },
    });
    expect([...schemas.values()].map(({ version, upcast }) => [version, upcast.length])).toEqual([
      [1, 0],
      [1, 0],
      [3, 2],
      [1, 0],
    ]);
    expect(schemas.get("versioned")?.dataschema).toBe("https://example.com/3");
  });

  it.each([
    [null, "options.messages"],
    [[], "options.messages"],
    [{}, "options.messages"],
    [accepting, "options.messages"],
    [{ "": accepting }, "options.messages"],
    [{ ["x".repeat(257)]: accepting }, "options.messages"],
    [{ a: null }, "options.messages.a"],
    [{ "a b": {} }, 'options.messages["a b"].schema'],
    [{ a: { "~standard": { version: 2, validate: up } } }, "options.messages.a"],
    [{ a: { schema: {} } }, "options.messages.a.schema"],
    [{ a: { schema: accepting, versoin: 2 } }, "options.messages.a"],
    [{ a: { schema: accepting, version: 0 } }, "options.messages.a.version"],
    [{ a: { schema: accepting, version: 1.5 } }, "options.messages.a.version"],
    [{ a: { schema: accepting, version: 10_001 } }, "options.messages.a.version"],
    [{ a: { schema: accepting, dataschema: "" } }, "options.messages.a.dataschema"],
    [{ a: { schema: accepting, version: 2 } }, "options.messages.a.upcast[1]"],
    [{ a: { schema: accepting, version: 2, upcast: [up] } }, "options.messages.a.upcast[1]"],
    [{ a: { schema: accepting, version: 4, upcast: { 1: up, 3: up } } }, "options.messages.a.upcast[2]"],
    [{ a: { schema: accepting, version: 3, upcast: { 1: up, 2: null } } }, "options.messages.a.upcast[2]"],
    [{ a: { schema: accepting, version: 2, upcast: { 1: up, 2: up } } }, "options.messages.a.upcast"],
    [{ a: { schema: accepting, upcast: { 0: up } } }, "options.messages.a.upcast"],
    [{ a: { schema: accepting, version: 2, upcast: { 1: up, "1.0": up } } }, "options.messages.a.upcast"],
  ])("refuses %j with a TypeError that names it", (messages, name) => {
    const error = thrown(option(messages));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain(`\`${name}\``);
  });
});

describe.each(Object.entries(LIBRARIES))("a message with schemas of %s", (_, library) => {
  const schemas = schemasOf("options.messages", library);

  it("becomes the schema's output, with its type", () => {
    const items = [{ price: 1 }];
    expect(checked(schemas, { type: "order_created", order: 1, items }).msg).toEqual({
      type: "order_created",
      order: 1,
      note: "none",
      items,
    });
    expect(checked(schemas, { type: "order_paid", total: "12" }).msg).toEqual({ type: "order_paid", total: 12 });
    expect(checked(schemas, { type: "order_lost" }).msg).toEqual({ type: "order_lost" });
  });

  it("is refused with its issues and the path of the first, or becomes what another check gives", () => {
    const { code, message, issues } = thrown(() =>
      checked(schemas, { type: "order_created", order: 1, items: [{ price: 1 }, { price: "2" }] }),
    );
    expect(code).toBe("invalid_message");
    expect(issues?.map(({ path }) => path)).toEqual([["items", 1, "price"]]);
    expect(message).toContain('"order_created"');
    expect(message).toContain("`msg.items[1].price`");
    expect(message).toContain(issues?.[0]?.message.replace(/\.$/, "") ?? "nothing");
    // Whatever is drawn: the library itself says what passes, and what that becomes.
    holds([drawn], (msg) => {
      const { "~standard": standard } = library[msg.type as "order_paid"];
      const result = standard.validate(structuredClone(msg)) as { issues?: readonly unknown[]; value?: object };
      if (result.issues) expect(thrown(() => checked(schemas, msg)).issues).toHaveLength(result.issues.length);
      else expect(checked(schemas, msg)).toEqual({ msg: { ...result.value, type: msg.type }, version: 1 });
    });
  });
});

describe("a message", () => {
  it("without a type, or without schemas, is stored as it is", () => {
    const schemas = one(schemaOf(() => expect.fail("it was checked")));
    holds([fc.anything()], (msg) => {
      if (typeof (Object(msg) as { type?: unknown }).type === "string") return;
      expect(checked(schemas, msg).msg).toBe(msg);
      expect(checked(null, msg).msg).toBe(msg);
    });
    const typed = { type: "b" };
    expect(checked(null, typed).msg).toBe(typed);
  });

  it("is refused where its schema makes something of it of which a copy with its type would hold nothing", () => {
    for (const output of [new Map([["left", 1]]), new Set([1]), new Date(), new Uint8Array(1), new Error("x"), () => {}, [], 1, null]) {
      const error = thrown(() => checked(one(schemaOf(() => ({ value: output }))), { type: "a" }));
      expect(error).toBeInstanceOf(TypeError);
    }
    class Own {
      left = 1;
    }
    expect(checked(one(schemaOf(() => ({ value: new Own() }))), { type: "a" }).msg).toEqual({ type: "a", left: 1 });
  });

  it("of a type that is not declared is refused, also when an object inherits that name", () => {
    for (const type of ["b", "toString", "__proto__", "constructor", ""]) {
      const error = thrown(() => checked(one(accepting), { type }));
      expect([error.code, error.issues?.[0]?.path]).toEqual(["invalid_message", ["type"]]);
      expect(error.message).toContain('"a"');
    }
  });

  it("whose schema is async is a TypeError that names the way out, and no rejection that nobody handles", () => {
    const handlers: unknown[] = [];
    // biome-ignore lint/suspicious/noThenProperty: it sees who handles its rejection.
    const later = { then: (_: unknown, rejected: unknown) => handlers.push(rejected) };
    const error = thrown(() => checked(one(schemaOf(() => later)), { type: "a" }));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain("await manager.validate(msg)");
    expect(handlers).toEqual([expect.any(Function)]);
  });

  it("keeps its type: a schema may leave it out, and not change it", () => {
    expect(checked(one(schemaOf(() => ({ value: { n: 1 } }))), { type: "a" }).msg).toEqual({ type: "a", n: 1 });
    for (const value of [{ type: "b" }, { type: 1 }, [], "a", null, undefined, Promise.resolve({})]) {
      expect(thrown(() => checked(one(schemaOf(() => ({ value }))), { type: "a" }))).toBeInstanceOf(TypeError);
    }
  });

  it("is refused with at most a hundred issues, however they look", () => {
    const endless = Array.from({ length: 500 }, (_, n) => ({ message: "x".repeat(1000), path: [n, { key: "key" }, Symbol("s")] }));
    const many = thrown(() => checked(one(schemaOf(() => ({ issues: endless }))), { type: "a" }));
    expect(many.issues).toHaveLength(100);
    expect(many.issues?.[7]).toEqual({ message: "x".repeat(500), path: [7, "key", "Symbol(s)"] });
    expect(many.message).toContain("and 499 more");
    expect(structuredClone(many.issues)).toEqual(many.issues);
    const none = thrown(() => checked(one(schemaOf(() => ({ issues: [] }))), { type: "a" }));
    expect([none.code, none.issues]).toEqual(["invalid_message", []]);
    expect(none.message).toContain("`msg`");
  });
});

describe("validate", () => {
  it("waits for an async schema, and its result is taken without another check", async () => {
    let checks = 0;
    const schemas = one(
      schemaOf(async (value) => {
        checks++;
        return (value as { n?: number }).n ? { value: { n: 2 } } : { issues: [{ message: "no n" }] };
      }),
    );
    const given = { type: "a", n: 1 };
    const valid = await validated(schemas, given);
    given.n = 3;
    expect(valid.msg).toEqual({ type: "a", n: 2 });
    (valid.msg as { n: number }).n = 4;
    expect(checked(schemas, valid)).toEqual({ msg: { type: "a", n: 2 }, version: 1 });
    expect(await validated(schemas, valid)).toBe(valid);
    expect(checks).toBe(1);
    await expect(validated(schemas, { type: "a" })).rejects.toMatchObject({
      code: "invalid_message",
      issues: [{ message: "no n", path: [] }],
    });
    await expect(validated(schemas, { type: "b" })).rejects.toMatchObject({ code: "invalid_message" });
  });

  it("is of the schemas that have checked: others check again", async () => {
    const valid = await validated(one(accepting), { type: "a", n: 1 });
    const stricter = one(schemaOf(() => ({ issues: [{ message: "no" }] })));
    expect(() => checked(stricter, valid)).toThrow("no");
    await expect(validated(stricter, valid)).rejects.toThrow("no");
    expect(checked(null, valid).msg).toEqual({ type: "a", n: 1 });
    const free = await validated(null, ["anything"]);
    expect(free).toBeInstanceOf(ValidMessage);
    expect(checked(null, free).msg).toEqual(["anything"]);
  });

  it("refuses what can't be cloned", async () => {
    await expect(validated(one(accepting), { type: "a", call: () => {} })).rejects.toThrow("`msg.call`");
    await expect(validated(null, undefined)).rejects.toThrow(TypeError);
  });
});
