/** The isolate's clock, which tests set forward. Alarms and timers stay on the real one: after a jump the test drives the outbox itself. */
import { vi } from "vitest";

const realNow = Date.now.bind(Date);
let ahead = 0;

export function forward(seconds: number): void {
  forwardTo(realNow() + ahead + seconds * 1000);
}

/** Sets it forward to this time, in milliseconds since the Unix epoch. */
export function forwardTo(time: number): void {
  ahead = time - realNow();
  vi.spyOn(Date, "now").mockImplementation(() => realNow() + ahead);
}

/** Lets it be right again, once the mock is restored. */
export function rewind(): void {
  ahead = 0;
}
