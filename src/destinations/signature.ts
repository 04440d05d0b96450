/** Signatures as Standard Webhooks 1.0 has them: HMAC-SHA256, by WebCrypto. */

import { expected } from "../api/errors.js";

/** A symmetric secret: `whsec_` and base64, or its bytes. 24 to 64 bytes, as Standard Webhooks requires. */
export type WebhookSecret = string | Uint8Array;

/** Replaces a string that may be secret in errors. */
export const HIDDEN = "(not shown)";

const PREFIX = "whsec_";
const MIN_BYTES = 24;
const MAX_BYTES = 64;

/** Returns the `webhook-signature` of an id, a time in seconds since the Unix epoch, and a body. */
export type Sign = (id: string, timestamp: number, body: string) => Promise<string>;

/**
 * The keys of one or several secrets: `null` when one is missing, as where an environment has no such variable. That must not keep the object
 * from starting, so it is reported when something is to be signed.
 *
 * @throws TypeError, without any text of a secret.
 */
export function keysOf(name: string, secret: WebhookSecret | readonly WebhookSecret[]): Uint8Array[] | null {
  const all = Array.isArray(secret) ? (secret as readonly WebhookSecret[]) : [secret as WebhookSecret];
  if (all.length === 0) throw expected(name, "at least one secret", all);
  if (all.some((each) => each === undefined || each === null || each === "")) return null;
  return all.map((secret) => {
    const bytes = bytesOf(secret);
    if (!bytes) throw expected(name, `${PREFIX} and base64, or a Uint8Array`, typeof secret === "string" ? HIDDEN : secret);
    if (bytes.length < MIN_BYTES || bytes.length > MAX_BYTES) throw expected(name, `${MIN_BYTES} to ${MAX_BYTES} bytes`, bytes.length);
    return bytes;
  });
}

function bytesOf(secret: unknown): Uint8Array | null {
  if (secret instanceof Uint8Array) return secret.slice();
  if (typeof secret !== "string" || !secret.startsWith(PREFIX)) return null;
  try {
    return Uint8Array.from(atob(secret.slice(PREFIX.length)), (char) => char.charCodeAt(0));
  } catch {
    return null;
  }
}

/** For one call only: keys are imported asynchronously, and one request must not wait for work that another has begun. */
export async function signer(keys: readonly Uint8Array[]): Promise<Sign> {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const imported = await Promise.all(keys.map((key) => crypto.subtle.importKey("raw", key, algorithm, false, ["sign"])));
  return async (id, timestamp, body) => {
    const content = new TextEncoder().encode(`${id}.${timestamp}.${body}`);
    const signatures = await Promise.all(imported.map((key) => crypto.subtle.sign("HMAC", key, content)));
    return signatures.map((signature) => `v1,${btoa(String.fromCharCode(...new Uint8Array(signature)))}`).join(" ");
  };
}

/** An id as a header value: percent-encoded, including the full stop, because that separates the signed parts. */
export function headerId(id: string): string {
  return encodeURIComponent(id.replace(/\p{Surrogate}/gu, "\ufffd")).replaceAll(".", "%2E");
}

/** The `webhook-id` of a batch: its first id, its count, and a digest of all ids, because batches may differ in others only. */
export async function batchId(ids: readonly string[]): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(ids)));
  const hex = Array.from(new Uint8Array(digest, 0, 8), (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${headerId(ids[0] ?? "")}+${ids.length}+${hex}`;
}
