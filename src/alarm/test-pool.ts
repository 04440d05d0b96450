/** Cloudflare's test pool: its `runDurableObjectAlarm` asks storage whether an alarm is set before it calls one, and must see the outbox's. */

/** Whether that asks, as its frame in the stack says. In production nothing is looked at: the pool alone has this global. */
export function isTestPool(): boolean {
  return "__vitest_worker__" in globalThis && /at runAlarm \(.*cloudflare/.test(String(new Error().stack));
}
