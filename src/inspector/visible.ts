/** Text as a person can read it safely: what would be invisible, or change how its neighbours look, is shown as an escape. */

/**
 * Control characters, halves of a surrogate pair, characters that change the direction of what follows, and those that have no width. Line breaks and tabs
 * are among them: a caller that wants to keep them splits at them first.
 */
const HIDDEN = /[\p{Cc}\p{Cs}\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/gu;

/** The text with escapes such as `\u202e` in place of what can't be seen. */
export function visible(text: string): string {
  return text.replace(HIDDEN, escaped);
}

/** The same between quotation marks, in which a backslash and a quotation mark are escaped as well. */
export function quoted(text: string): string {
  return `"${text.replace(/[\\"]/g, "\\$&").replace(HIDDEN, escaped)}"`;
}

const SHORT: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function escaped(character: string): string {
  return SHORT[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
