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

/**
 * Prints texts side by side, some of them marked: green, or in brackets where standard output has no colours, as in a pipe.
 *
 * @param runs The texts
 */
export function printRuns(runs: readonly { readonly text: string; readonly marked: boolean }[]): void {
  const colored = !Deno.noColor && Deno.stdout.isTerminal();
  const texts = runs.map(({ text, marked }) => {
    const plain = printable(text);
    return marked && !colored ? `[${plain}]` : plain;
  });
  const colors = runs.map(({ marked }) => marked ? "color: green" : "color: gray");
  console.log("%c%s".repeat(runs.length), ...texts.flatMap((text, i) => [colors[i], text]));
}

/** Writes text to standard output as it stands, all of it. */
export function write(text: string): void {
  let left = new TextEncoder().encode(text);
  while (left.length > 0) left = left.subarray(Deno.stdout.writeSync(left));
}

/** Prints a line on standard error, stripped of terminal escapes. */
export function printError(text: string): void {
  console.error(printable(text));
}
