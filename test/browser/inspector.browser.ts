/**
 * The inspector's page, in a real browser: every action at both widths, light and dark, by keyboard alone, with axe at each stop. With SCREENSHOTS=1 it makes
 * those of docs/inspector.md.
 */
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { HOSTILE } from "../support/hostile.ts";
import { Typist } from "./keys.ts";
import { begin, browserPath, type World } from "./world.ts";

const path = browserPath();
if (!path && process.env.CI === "true") throw new Error("No Chromium was found: install it, or set CHROMIUM to where it is.");
if (!path) console.log("skipped: no Chromium was found (apt-get install chromium, or set CHROMIUM to where it is)");

const LOOKS = [
  { name: "1280 pixels, light", width: 1280, height: 900, colorScheme: "light" },
  { name: "390 pixels, dark", width: 390, height: 844, colorScheme: "dark" },
  { name: "390 pixels, light", width: 390, height: 844, colorScheme: "light" },
  { name: "1280 pixels, dark", width: 1280, height: 900, colorScheme: "dark" },
] as const;
type Look = (typeof LOOKS)[number];

let world: World;

interface Stats {
  readonly destinations: Record<
    string,
    { pending: number; delayed: number; blocked: number; dead: number; paused: boolean; breaker: string }
  >;
}
const statsOf = async (object: string) => ((await world.order(`/stats?object=${object}`)) as Stats).destinations;

/** Waits until a fact about an object is true. */
async function until(object: string, fact: (stats: Stats["destinations"]) => boolean): Promise<void> {
  while (!fact(await statsOf(object))) await new Promise((resolve) => setTimeout(resolve, 25));
}

/** An object with dead letters, delayed messages, a destination that is down and one that its class has lost. */
async function troubled(object: string): Promise<void> {
  await world.order(`/fill?object=${object}`);
  await until(object, ({ billing }) => billing?.dead === 6 && billing.delayed === 2 && billing.blocked === 1);
  await world.order(`/lose?object=${object}`);
  await world.order(`/down?object=${object}&destination=search`);
  await world.order(`/more?object=${object}`);
  await until(object, ({ search }) => search?.breaker === "open");
}

/** The ids of an object's dead letters, as another person's page gets them. */
async function dead(object: string): Promise<string[]> {
  const query = new URLSearchParams({ api: "messages", namespace: "ORDERS", name: object, state: "dead", destination: "billing" });
  const answer = (await world.order(`/admin/outbox?${query}`)) as { messages: { id: string }[] };
  return answer.messages.map(({ id }) => id);
}

async function act(object: string, command: object): Promise<void> {
  const query = new URLSearchParams({ api: "act", namespace: "ORDERS", name: object });
  const init = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(command) };
  expect((await world.ask(`/admin/outbox?${query}`, init)).status).toBe(200);
}

async function open(look: Look, address: string): Promise<Typist> {
  const context = await world.browser.newContext({ viewport: look, colorScheme: look.colorScheme });
  const page = await context.newPage();
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => void (message.type() === "error" && errors.push(message.text())));
  Object.assign(page, { errors });
  await page.goto(new URL(address, world.url).href);
  await page.locator('html[data-ready="true"]').waitFor();
  return new Typist(page);
}

/** Nothing went wrong in the page, and nothing of what it showed has run. */
async function close({ page }: Typist): Promise<void> {
  expect((page as Page & { errors: string[] }).errors).toEqual([]);
  await page.context().close();
}

async function shoot({ page }: Typist, name: string, fullPage = false): Promise<void> {
  if (!process.env.SCREENSHOTS) return;
  await page.evaluate(() => window.scrollTo(0, 0));
  await page.screenshot({ path: `docs/images/inspector-${name}.png`, fullPage });
}

describe.skipIf(!path)("the inspector's page", () => {
  beforeAll(async () => {
    world = await begin(path as string);
  });
  afterAll(() => world?.end());

  it.each(LOOKS)("does every action by keyboard alone ($name)", async (look) => {
    const object = `order-${look.width}-${look.colorScheme}`;
    await troubled(object);
    const typist = await open(look, "/admin/outbox");
    const { page } = typist;

    // By name, from the page alone.
    await typist.isAccessible();
    await typist.to("Name or id of an object");
    await page.keyboard.type(object);
    await typist.press("Enter");
    await page.locator("main h1", { hasText: object }).waitFor();
    await page.locator("tr", { hasText: "missing" }).waitFor();
    await page.locator("tr", { hasText: "backing off" }).waitFor();
    await typist.isAccessible();

    // The destination as a whole.
    await typist.do("Pause search");
    expect(await typist.done("Pause search", "Pause")).toBe("Paused: 1 destination.");
    await page.locator("tr .badge", { hasText: "paused" }).waitFor();
    // Someone else has been quicker.
    await typist.do("Resume search");
    await page.locator("dialog.confirm[open]").waitFor();
    await typist.isAccessible();
    expect(await typist.done("Resume search", "Resume")).toBe("Resumed: 1 destination.");
    await world.order(`/up?object=${object}`);
    await until(object, ({ search }) => search?.paused === false);
    if ((await statsOf(object)).search?.pending) {
      await typist.do("Flush search");
      expect(await typist.done("Flush search", "Flush")).toMatch(/^Flushed: /);
    }
    await until(object, ({ search }) => search?.pending === 0);

    // Dead letters: one, some, all.
    await typist.do("billing");
    await page.locator("h2", { hasText: "Messages for billing" }).waitFor();
    await typist.to("Pending");
    await typist.press("ArrowRight");
    await typist.press("ArrowRight");
    await page.locator('[role="tab"][aria-selected="true"]', { hasText: "Dead letters" }).waitFor();
    await page.locator(".list li").nth(5).waitFor();
    await typist.isAccessible();
    if (look === LOOKS[0] && process.env.SCREENSHOTS) {
      await world.order(`/down?object=${object}&destination=search`);
      await world.order(`/more?object=${object}`);
      await page.locator("tr", { hasText: "backing off" }).waitFor();
      await shoot(typist, "object", true);
      await world.order(`/up?object=${object}`);
    }
    if (look === LOOKS[1]) await shoot(typist, "narrow");
    await typist.do("invoice_sent #2");
    await page.locator(".drawer[open] pre", { hasText: "Utrecht" }).waitFor();
    await typist.isAccessible();
    if (look === LOOKS[3]) await shoot(typist, "message");
    await typist.do("Discard");
    expect(await typist.done("Discard 1 dead letter", "Discard")).toBe("Discarded: 1 message.");
    await expect.poll(() => page.locator(".list li").count()).toBe(5);
    await typist.to("Choose invoice_sent #3");
    await typist.press("Space");
    await typist.to("Choose invoice_sent #4");
    await typist.press("Space");
    await typist.do("Redrive");
    await page.locator("dialog.confirm[open]").waitFor();
    // Someone else discards one of the two meanwhile.
    const [third] = await dead(object);
    await act(object, { action: "discard", destination: "billing", ids: [third] });
    expect(await typist.done("Redrive 2 dead letters", "Redrive")).toMatch(
      /^Redriven: 1 dead letter\. 1 other was not in that state any more/,
    );
    // It comes back, because the destination still refuses it.
    await until(object, ({ billing }) => billing?.dead === 4);
    await typist.do("Redrive all");
    expect(await typist.done("Redrive all dead letters of", "Redrive")).toBe("Redriven: 4 dead letters.");
    await until(object, ({ billing }) => billing?.dead === 4);

    // Delayed ones.
    await typist.to("Dead letters");
    await typist.press("ArrowLeft");
    await page.locator('[role="tab"][aria-selected="true"]', { hasText: "Delayed" }).waitFor();
    await page.locator(".list li", { hasText: "reminder" }).waitFor();
    await typist.do("invoice_sent #8");
    await page.locator(".drawer[open]", { hasText: "429 Too Many Requests" }).waitFor();
    await typist.do("Retry now");
    expect(await typist.done("Retry 1 message now", "Retry now")).toBe("Due at once: 1 message.");
    await typist.to("Choose invoice_sent #10");
    await typist.press("Space");
    await typist.do("Cancel");
    expect(await typist.done("Cancel 1 message", "Cancel them")).toBe("Cancelled: 1 message.");

    // The log, and back to the beginning of it.
    await typist.to("Delayed");
    await typist.press("ArrowLeft");
    await typist.press("ArrowLeft");
    await page.locator('[role="tab"][aria-selected="true"]', { hasText: "Log" }).waitFor();
    await page.locator(".list li").first().waitFor();
    await typist.isAccessible();
    await typist.do("order_created #1");
    await page.locator(".drawer[open] pre", { hasText: "129950n" }).waitFor();
    expect(await page.locator(".drawer pre").innerText()).toContain('placedAt: Date("2026-11-27T18:05:11.250Z")');
    await typist.do("Rewind a destination to here");
    await page.locator("dialog.confirm[open]").waitFor();
    await typist.isAccessible();
    expect(await typist.done("Rewind a destination", "Rewind")).toMatch(/^Rewound: it gets up to \d+ messages again\.$/);

    // What the class has lost.
    await typist.do("Drop legacy");
    await page.locator("dialog.confirm[open]").waitFor();
    await typist.to("deadLetters");
    await typist.isAccessible();
    expect(await typist.done("Drop legacy", "Drop")).toMatch(/^Dropped: it had \d+ messages? yet to get\.$/);
    await expect.poll(() => page.locator("tr", { hasText: "missing" }).count()).toBe(0);
    await close(typist);
  });

  it("shows twenty hostile payloads as text", async () => {
    await world.order("/hostile?object=hostile");
    await until("hostile", ({ billing }) => billing?.dead === HOSTILE.length);
    const typist = await open(LOOKS[1], "/admin/outbox#namespace=ORDERS&name=hostile&destination=billing&tab=dead");
    const { page } = typist;
    await page.evaluate(() => Object.assign(globalThis, { hacked: () => document.body.append("hacked") }));
    await page
      .locator(".list li")
      .nth(HOSTILE.length - 1)
      .waitFor();
    await typist.isAccessible();
    const texts: string[] = [];
    for (let n = 0; n < HOSTILE.length; n++) {
      await page.locator(".open").nth(n).click();
      const payload = page.locator(".drawer[open] pre");
      await payload.waitFor();
      // All of it comes after what the list had.
      if (await page.locator(".drawer .cut", { hasText: "2,000" }).count()) await payload.filter({ hasText: /^[\s\S]{2100}/ }).waitFor();
      texts.push((await payload.textContent()) ?? "");
      expect(await page.locator(".drawer img, .drawer script, .drawer svg, .drawer i, .drawer u, .list img").count()).toBe(0);
      expect(await page.locator(".drawer dd", { hasText: "<img src=x" }).count()).toBe(1);
      await typist.press("Escape");
    }
    const parts = [
      "<script>hacked()</script>",
      "<img src=x",
      "</pre></style></script><svg",
      "javascript:hacked()",
      "data:text/html,<script>",
      "{{constructor",
    ];
    const others = [
      "\\u202egnirts desrever\\u202c",
      "עברית",
      "lone \\ud800 halves \\udc00",
      "\\u0000\\u0007\\u001b[31m",
      "zero\\u200bwidth\\ufeff",
      "aaaa",
      "йй",
    ];
    const values = [
      "inner: { inner:",
      "[circular",
      "9007199254740993n",
      "Uint8Array(5000 bytes) <3c 3c",
      "Map(1) {",
      '"\\"><img src=x',
      "Error(",
    ];
    for (const [n, part] of [...parts, ...others].entries()) expect(texts[n]).toContain(part);
    for (const [n, part] of values.slice(1).entries()) expect(texts[n + parts.length + others.length + 1]).toContain(part);
    expect(texts.join()).not.toMatch(/[\u202a-\u202e\ud800-\udfff\0]/u);
    expect(await page.locator("body").textContent()).not.toMatch(/hacked$/);
    await close(typist);
  });

  it("shows no action to whoever may only look, and nothing to anyone else", async () => {
    await world.order("/fill?object=read-only");
    await until("read-only", ({ billing }) => billing?.dead === 6);
    const address = "#namespace=ORDERS&name=read-only&destination=billing&tab=dead";
    const typist = await open(LOOKS[0], `/admin/outbox?rights=read&redact=1${address}`);
    const { page } = typist;
    await page.locator(".list li").nth(5).waitFor();
    expect(await page.locator("main button:not(.open)").count()).toBe(0);
    expect(await page.locator(".list").textContent()).not.toContain("Utrecht");
    await page.locator(".open").first().click();
    expect(await page.locator(".drawer footer button").count()).toBe(0);
    await typist.press("Escape");
    // While it is hidden it asks for nothing; shown again, it asks at once.
    await page.evaluate(() => {
      Object.defineProperty(document, "hidden", { value: true, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await page.waitForLoadState("networkidle");
    let asked = 0;
    page.on("request", () => void asked++);
    // Longer than it waits between two questions at first.
    await page.waitForTimeout(2500);
    expect(asked).toBe(0);
    await page.evaluate(() => {
      Object.defineProperty(document, "hidden", { value: false, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await expect.poll(() => asked).toBeGreaterThan(0);
    await close(typist);
    const refused = await world.ask("/admin/outbox?rights=none");
    expect(refused.status).toBe(401);
  });

  it.each([LOOKS[0], LOOKS[1]])("lists a fleet worst first, and acts on all that match ($name)", async (look) => {
    const typist = await open(look, "/admin/outbox?fleet=1");
    const { page } = typist;
    await page.locator("tbody tr").nth(24).waitFor();
    await typist.isAccessible();
    await typist.do("Next");
    await page.locator("span", { hasText: "Page 2" }).waitFor();
    await typist.to("search");
    await page.keyboard.type("order-20");
    await typist.press("Enter");
    await page.locator(".id", { hasText: "40 destinations" }).waitFor();
    await typist.do("Redrive all dead letters");
    expect(await typist.done("Redrive all that match", "Redrive")).toMatch(/^Started: \d+ destinations\.$/);
    await page.locator(".batch", { hasText: "running" }).waitFor();
    await typist.isAccessible();
    if (look === LOOKS[0]) await shoot(typist, "fleet");
    await typist.do("Stop");
    await page.locator(".batch", { hasText: "stopped" }).waitFor();
    await typist.do("order-2001");
    await page.locator("main h1", { hasText: "order-2001" }).waitFor();
    await close(typist);
  });
});
