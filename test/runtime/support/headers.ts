/** Headers that are no plain object of strings: what they hold would be lost without a word. */

/** Each of them has a `traceparent`, in its own way. */
export function lostHeaders(): Record<string, unknown> {
  class Traced {
    traceparent = "00-1";
  }
  return {
    Headers: new Headers({ traceparent: "00-1" }),
    Map: new Map([["traceparent", "00-1"]]),
    URLSearchParams: new URLSearchParams("traceparent=00-1"),
    FormData: new FormData(),
    "a list of pairs": [["traceparent", "00-1"]],
    "an object of a class": new Traced(),
    "an object that inherits": Object.create({ traceparent: "00-1" }),
    "a function": () => "00-1",
  };
}
