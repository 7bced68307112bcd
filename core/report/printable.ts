/**
 * Text of strangers on a terminal.
 *
 * @module
 */

/** A whole control sequence: colours and moves of the cursor; titles, links and other strings; the short ones. */
const SEQUENCES =
  // deno-lint-ignore no-control-regex
  /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)|\x1b[ -/]*[0-Z\\^-~]/g;
/** What else moves the cursor or turns the order of text: controls but newline and tab, and bidirectional overrides. */
// deno-lint-ignore no-control-regex
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

/**
 * Strips text of what a terminal would obey: names of files and tensors, tokens and samples come from strangers.
 *
 * @param text Any text
 * @returns The text without escape sequences, control characters and bidirectional overrides; newlines and tabs stay
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { printable } from "@firn/train/report";
 *
 * assertEquals(printable("a \x1b[31mred\x1b[0m whale\r\n"), "a red whale\n");
 * ```
 */
export function printable(text: string): string {
  return text.replace(SEQUENCES, "").replace(CONTROLS, "");
}
