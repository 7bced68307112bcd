/**
 * Printing for the examples: what they print holds names, tokens and samples of strangers.
 *
 * @module
 */

import { printable } from "@firn/train/report";

/**
 * Prints a line, stripped of terminal escapes.
 *
 * @param text The line, or several
 * @param options `color`: that of the whole line, where standard output is a terminal that wants colours
 */
export function print(text = "", { color }: { readonly color?: "red" } = {}): void {
  if (color === undefined) console.log(printable(text));
  else console.log("%c%s", `color: ${color}`, printable(text));
}

/** Prints a line on standard error, stripped of terminal escapes. */
export function printError(text: string): void {
  console.error(printable(text));
}
