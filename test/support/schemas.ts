/** The same three types of messages in the schemas of three libraries, whose code is large: what needs none of it takes `schema.ts`. */
import { type } from "arktype";
import fc from "fast-check";
import * as v from "valibot";
import * as z from "zod/v4";
import type { MessageSchemas } from "../../src/index.ts";

/**
 * `order_created` with a default and a list, `order_paid` with a transform of text to a number, `order_lost` without any property of its own. Only some
 * of them describe `type`.
 */
export const LIBRARIES = {
  zod: {
    order_created: z.object({ order: z.number().int(), note: z.string().default("none"), items: z.array(z.object({ price: z.number() })) }),
    order_paid: z.object({ type: z.literal("order_paid"), total: z.string().regex(/^\d+$/).transform(Number) }),
    order_lost: z.object({}),
  },
  valibot: {
    order_created: v.object({
      order: v.pipe(v.number(), v.integer()),
      note: v.optional(v.string(), "none"),
      items: v.array(v.object({ price: v.number() })),
    }),
    order_paid: v.object({ type: v.literal("order_paid"), total: v.pipe(v.string(), v.regex(/^\d+$/), v.transform(Number)) }),
    order_lost: v.object({}),
  },
  arktype: {
    order_created: type({ order: "number.integer", note: "string = 'none'", items: type({ price: "number" }).array() }),
    order_paid: type({ type: "'order_paid'", total: type("/^[0-9]+$/").pipe((text) => Number(text)) }),
    order_lost: type({}),
  },
} satisfies Record<string, MessageSchemas>;

/** Messages of which some pass the schemas above, and some do not. */
export const drawn: fc.Arbitrary<Record<string, unknown>> = fc.oneof(
  fc.record(
    {
      type: fc.constant("order_created"),
      order: fc.oneof({ weight: 5, arbitrary: fc.integer() }, fc.double({ noNaN: true, noDefaultInfinity: true }), fc.string()),
      note: fc.oneof({ weight: 5, arbitrary: fc.string({ unit: "binary" }) }, fc.constant(null)),
      items: fc.array(fc.record({ price: fc.oneof({ weight: 9, arbitrary: fc.integer() }, fc.constant("free")) }, { requiredKeys: [] }), {
        maxLength: 3,
      }),
    },
    { requiredKeys: ["type", "order", "items"] },
  ),
  fc.record({ type: fc.constant("order_paid"), total: fc.oneof(fc.nat().map(String), fc.integer(), fc.string()) }),
  fc.record({ type: fc.constant("order_lost") }),
);
