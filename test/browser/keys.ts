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

  /** How often Tab must be pressed until the focus is on what has a name that begins so: `null` where nothing has. */
  #distance(name: string): Promise<number | null> {
    return this.page.evaluate((name) => {
      const dialogs = [...document.querySelectorAll("dialog[open]")];
      const top = dialogs.find((each) => each.contains(document.activeElement)) ?? dialogs.at(-1) ?? document;
      const all = [...top.querySelectorAll<HTMLElement>("a[href], button, input, select, [tabindex]")].filter(
        (each) =>
          each.tabIndex >= 0 &&
          !(each as HTMLButtonElement).disabled &&
          each.checkVisibility() &&
          !each.matches("[type=radio]:not(:checked)"),
      );
      const nameOf = (each: HTMLElement): string => {
        const named = each.getAttribute("aria-label") ?? each.innerText ?? "";
        return (named || (each as HTMLInputElement).name || each.tagName).replace(/\s+/g, " ").trim();
      };
      const at = all.indexOf(document.activeElement as HTMLElement);
      const found = all.flatMap((each, to) => (nameOf(each).startsWith(name) ? [to] : []));
      const next = found.find((to) => to >= at) ?? found.at(-1);
      return next === undefined ? null : next - at;
    }, name);
  }

  /** Goes to what has a name that begins so, with the Tab key: forwards where there is one, and otherwise backwards. */
  async to(name: string): Promise<void> {
    // The page may change on the way.
    for (let tries = 0; tries < 100; tries++) {
      const distance = await this.#distance(name);
      if (distance === 0) return;
      if (distance === null) await this.page.waitForTimeout(20);
      for (let steps = Math.abs(distance ?? 0); steps > 0; steps--) await this.press(Number(distance) < 0 ? "Shift+Tab" : "Tab");
    }
    expect.fail(`The keyboard does not reach ${JSON.stringify(name)}.`);
  }

  press(key: string): Promise<void> {
    return this.page.keyboard.press(key);
  }

  /** Goes to a button or link and presses it. */
  async do(name: string): Promise<void> {
    await this.to(name);
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
