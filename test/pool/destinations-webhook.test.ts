/** `toWebhook` before it sends anything: arguments that it refuses, messages that it can't send, and secrets that it never shows. */
import { describe, expect, it } from "vitest";
import { toWebhook, type WebhookOptions } from "../../src/destinations/index.ts";
import type { OutboxMessage } from "../../src/index.ts";
import { message, messages, record } from "../destinations/recorder.ts";

const secretOf = (bytes: number) => `whsec_${btoa("k".repeat(bytes))}`;
const secret = secretOf(32);
const url = "https://example.com/hook";

/** Nothing listens there; what is rejected before is told all the same. */
const nowhere = "http://127.0.0.1:1/";

describe("toWebhook", () => {
  it.each([
    ["url", () => toWebhook("hook?token=hidden", { secret }), 'Expected `url` to be an absolute http or https URL, got "(not shown)".'],
    ["url", () => toWebhook(undefined as never, { secret }), "Expected `url` to be an absolute http or https URL, got undefined."],
    ["url", () => toWebhook("ws://example.com/hidden", { secret }), 'Expected `url` to be an absolute http or https URL, got "ws:".'],
    [
      "url",
      () => toWebhook("https://a:hidden@example.com", { secret }),
      'Expected `url` to be a URL without user name and password, got "(not',
    ],
    [
      "url",
      () => toWebhook("https://hidden@example.com", { secret }),
      'Expected `url` to be a URL without user name and password, got "(not',
    ],
    ["options", () => toWebhook(url, undefined as never), "Expected `options` to be an object, got undefined."],
    [
      "options",
      () => toWebhook(url, { secret, retries: 3 } as never),
      "Expected `options` to be an object of secret, mode, concurrency, source, type, got",
    ],
    [
      "options.secret",
      () => toWebhook(url, {} as never),
      "Expected `options.secret` to be whsec_ and base64, or a Uint8Array, got undefined.",
    ],
    ["options.secret", () => toWebhook(url, { secret: [] }), "Expected `options.secret` to be one secret at least, got object."],
    [
      "options.secret",
      () => toWebhook(url, { secret: secret.slice(6) }),
      'Expected `options.secret` to be whsec_ and base64, or a Uint8Array, got "(not shown)".',
    ],
    [
      "options.secret",
      () => toWebhook(url, { secret: "whsec_hidden!" }),
      'Expected `options.secret` to be whsec_ and base64, or a Uint8Array, got "(not shown)".',
    ],
    ["options.secret", () => toWebhook(url, { secret: [secret, secretOf(23)] }), "Expected `options.secret` to be 24 to 64 bytes, got 23."],
    ["options.secret", () => toWebhook(url, { secret: secretOf(65) }), "Expected `options.secret` to be 24 to 64 bytes, got 65."],
    ["options.secret", () => toWebhook(url, { secret: new Uint8Array(23) }), "Expected `options.secret` to be 24 to 64 bytes, got 23."],
    [
      "options.mode",
      () => toWebhook(url, { secret, mode: "all" as never }),
      'Expected `options.mode` to be "single" or "batch", got "all".',
    ],
    [
      "options.concurrency",
      () => toWebhook(url, { secret, concurrency: 0 }),
      "Expected `options.concurrency` to be a whole number from 1 to 100, got 0.",
    ],
    [
      "options.concurrency",
      () => toWebhook(url, { secret, concurrency: 101 }),
      "Expected `options.concurrency` to be a whole number from 1 to 100, got 101.",
    ],
    ["options.source", () => toWebhook(url, { secret, source: "" }), 'Expected `options.source` to be a text, got "".'],
    ["options.type", () => toWebhook(url, { secret, type: 1 as never }), "Expected `options.type` to be a text, got 1."],
  ])("refuses a wrong %s at once, and shows none of it that could be secret", (_, make, text) => {
    expect(make).toThrow(TypeError);
    expect(make).toThrow(text);
    expect(make).not.toThrow(/hidden|kkk|a2tr/);
  });

  it.each([
    ["24 bytes", secretOf(24)],
    ["64 bytes", secretOf(64)],
    ["raw bytes", new Uint8Array(32)],
    ["several", [secret, new Uint8Array(24)]],
  ] as [string, WebhookOptions["secret"]][])("takes a secret of %s", (_, secret) => {
    expect(toWebhook(new URL(url), { secret, concurrency: 100 })).toHaveLength(2);
  });

  it("rejects a message alone that JSON can't hold, and says why", async () => {
    const bodies = [new Map(), { deep: [new Set()] }, new ArrayBuffer(1), 1n];
    const batch = messages(4, (n) => ({ msg: bodies[n - 1] }));
    const { outcomes, error } = await record(toWebhook(nowhere, { secret }), batch);
    expect([outcomes, error]).toEqual([
      {
        1: "reject JSON does not hold Maps.",
        2: "reject JSON does not hold Sets.",
        3: "reject JSON does not hold ArrayBuffers.",
        4: "reject Do not know how to serialize a BigInt",
      },
      undefined,
    ]);
  });

  it("rejects a message alone for which url throws, and does not tell what it threw", async () => {
    const send = toWebhook(
      () => {
        throw new Error("https://example.com/?token=hidden");
      },
      { secret },
    );
    expect(await record(send, [message(1)])).toEqual({ outcomes: { 1: "reject `url` threw for this message." } });
  });

  it("refuses to be called without delivery", async () => {
    const send = toWebhook(nowhere, { secret }) as (messages: OutboxMessage[]) => Promise<void>;
    await expect(send(messages(1))).rejects.toThrow("Expected `delivery` to be the second argument of sendMessages, got undefined.");
  });
});
