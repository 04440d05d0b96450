/** Text as a person can read it safely: what would be invisible, or change how its neighbours look, is shown as an escape. */

/**
 * Control characters, halves of a surrogate pair, characters that change the direction of what follows, and those that have no width: soft hyphens, fillers
 * and tags, in which a whole text can hide. Line breaks and tabs are among them: a caller that wants to keep them splits at them first. The two that
 * choose between text and emoji are not.
 */
const HIDDEN = /(?![\ufe0e\ufe0f])[\p{Cc}\p{Cs}\p{Default_Ignorable_Code_Point}\u2028\u2029\ufff9-\ufffb]/gu;

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
  const units = Array.from({ length: character.length }, (_, at) => character.charCodeAt(at).toString(16).padStart(4, "0"));
  return SHORT[character] ?? units.map((unit) => `\\u${unit}`).join("");
}
