/** The pure parts of the log over HTTP: ids of epochs, offsets and cursors. */
import { expect, it } from "vitest";
import { epochAfter, epochTime } from "../../src/log/epoch.ts";
import { cursorAfter } from "../../src/log-http/cursor.ts";
import { offsetIn, textOf } from "../../src/log-http/offset.ts";

const V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

it("an epoch is a UUID of version 7 that is later than the one before, whatever the clock says", () => {
  const now = 1_800_000_000_000;
  const first = epochAfter("", now);
  expect(first).toMatch(V7);
  expect(Number.parseInt(epochTime(first), 16)).toBe(now);
  let last = first;
  for (const time of [now, now - 5000, now + 1, now + 1, 0]) {
    const next = epochAfter(last, time);
    expect(next).toMatch(V7);
    expect(next > last).toBe(true);
    expect(epochTime(next) > epochTime(last)).toBe(true);
    last = next;
  }
  expect(epochAfter("", now)).not.toBe(epochAfter("", now));
});

it("an epoch of an earlier release comes before all others", () => {
  const old = "ffffffff-ffff-4fff-bfff-ffffffffffff";
  expect(epochTime(old)).toBe("000000000000");
  expect(epochTime("")).toBe("000000000000");
  expect(Number.parseInt(epochTime(epochAfter(old, 12)), 16)).toBe(12);
});

it("offsets sort by epoch, then by position", () => {
  const places = [0, 1, 9, 10, 4095, 2 ** 40].flatMap((time) =>
    [0, 1, 9, 10, 99, 100, Number.MAX_SAFE_INTEGER].map((position) => ({ time: time.toString(16).padStart(12, "0"), position })),
  );
  const texts = places.map(textOf);
  expect(texts).toEqual([...texts].sort());
  expect(texts.map(offsetIn)).toEqual(places);
  for (const text of ["", "-1", "now", "1", `${texts[0]}0`, "000000000000_9999999999999999", "00000000000g_0000000000000001"]) {
    expect([text, offsetIn(text)]).toEqual([text, undefined]);
  }
});

it("a cursor counts intervals of 20 s, and is later than the client's own", () => {
  const now = Date.UTC(2024, 9, 9) + 20_000 * 1000 + 19_999;
  for (const random of [0, 0.5, 0.999999]) {
    expect(cursorAfter(null, now, random)).toBe("1000");
    for (const given of ["999", "x", "", "-5", "1e9", "9".repeat(30)])
      expect([given, cursorAfter(given, now, random)]).toEqual([given, "1000"]);
  }
  expect([0, 0.5, 0.999999].map((random) => cursorAfter("1000", now, random))).toEqual(["1001", "1090", "1180"]);
  expect(cursorAfter("5000", now, 0)).toBe("5001");
});
