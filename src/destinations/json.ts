/** JSON on the wire: a body as JSON text, or the reason why JSON cannot represent it. */

/**
 * The value as JSON. A value with a `toJSON()`, such as a `Date` or a `URL`, becomes what that returns; a property that is `undefined` is left out.
 *
 * @throws Error that names a value that JSON would turn into something else: binary data, a `Map`, an error, `NaN`, a hole in an array and the like.
 */
export function jsonText(value: unknown): string {
  return JSON.stringify(value, checked) ?? refuse(nameOf(value));
}

/** A `replacer`: called once for each part, with the object that holds it as `this`. */
function checked(this: unknown, key: string, value: unknown): unknown {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      return Number.isFinite(value) ? value : refuse(String(value));
    case "undefined":
      // In an array it would become `null`.
      return Array.isArray(this) ? refuse("undefined in a list") : value;
    case "object":
      // Only an invalid date silently becomes `null`.
      if (value === null) return (this as Record<string, unknown>)[key] instanceof Date ? refuse("an invalid Date") : value;
      if (Array.isArray(value)) return Object.keys(value).length === value.length ? value : refuse("a list with holes or names");
      return checkedObject(value);
    default:
      return refuse(nameOf(value));
  }
}

/** Other built-in objects would become `{}`, and binary data an object of numbers. */
function checkedObject(value: object): object {
  const name = nameOf(value);
  if (name === "a Number" && !Number.isFinite(Number(value))) refuse(String(value));
  return ["an Object", "a Number", "a String", "a Boolean"].includes(name) ? value : refuse(name);
}

/** A value's kind, for a person to read: a `Map`, an `ArrayBuffer`. */
function nameOf(value: unknown): string {
  const name = Object.prototype.toString.call(value).slice(8, -1);
  return `${/^[AEIO]/.test(name) ? "an" : "a"} ${name}`;
}

function refuse(what: string): never {
  throw new Error(`JSON cannot represent ${what}.`);
}
