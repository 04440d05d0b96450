/** A page that is driven by its keyboard alone, and checked by axe at each stop. */
import { AxeBuilder } from "@axe-core/playwright";
import type { Page } from "playwright-core";
import { expect } from "vitest";

/** A person who never touches the mouse. */
export class Typist {
  readonly page: Page;
  constructor(page: Page) {
    this.page = page;
  }

  /** The role and the name of what has the focus. */
  focused(): Promise<string> {
    return this.page.evaluate(() => {
      const at = document.activeElement as HTMLElement | null;
      if (!at || at === document.body) return "";
      const named = at.getAttribute("aria-label") ?? at.innerText ?? "";
      return (named || (at as HTMLInputElement).name || at.tagName).replace(/\s+/g, " ").trim();
    });
  }

  /** Goes to the first element after the one in focus whose name begins so, with the Tab key. */
  async to(name: string, backwards = false): Promise<void> {
    for (let steps = 0; steps < 150; steps++) {
      if ((await this.focused()).startsWith(name)) return;
      await this.page.keyboard.press(backwards ? "Shift+Tab" : "Tab");
    }
    expect.fail(`The keyboard does not reach ${JSON.stringify(name)}.`);
  }

  press(key: string): Promise<void> {
    return this.page.keyboard.press(key);
  }

  /** Goes to a button or link and presses it. */
  async do(name: string, backwards = false): Promise<void> {
    await this.to(name, backwards);
    await this.press("Enter");
  }

  /** Confirms what is asked, whose title must begin so, and gives the outcome that is shown. */
  async confirm(title: string, verb: string): Promise<string> {
    const dialog = this.page.locator("dialog.confirm[open]");
    await dialog.waitFor();
    expect(await dialog.locator("h2").innerText()).toMatch(new RegExp(`^${title}`));
    await this.do(verb);
    const outcome = this.page.locator(".outcome span").last();
    await outcome.waitFor();
    return outcome.innerText();
  }

  /** The same, and takes the outcome away, so that the next is not mistaken for it. */
  async done(title: string, verb: string): Promise<string> {
    const text = await this.confirm(title, verb);
    await this.page.evaluate(() => document.querySelector(".outcomes")?.replaceChildren());
    return text;
  }

  /** Nothing that axe knows is wrong, and nothing is wider than the screen. */
  async isAccessible(): Promise<void> {
    // Without frames there is nothing for which another page would have to be opened.
    const { violations } = await new AxeBuilder({ page: this.page }).setLegacyMode().analyze();
    expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`)).toEqual([]);
    expect(await this.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)).toBeLessThanOrEqual(0);
  }
}
