/**
 * The functions of a file and their lengths, read off the indentation that `deno fmt` gives.
 *
 * @module
 */

import type { Offence, Source } from "./source.ts";

/** One function: its head, and how many lines it has from the head to the closing brace. */
export interface FunctionLength extends Offence {
  readonly lines: number;
}

const WORD = /^\s*(?:if|for|while|switch|catch|return|else|do|with)\b/;
const FUNCTION = /\bfunction\b\s*\*?\s*\w*\s*[(<]/;
const ARROW_BODY = /=>\s*\{$/;
const ARROW = /^\s*(?:export )?const \w+.*= (?:async )?(?:\(|<|\w+ =>)/;
const METHOD = /^\s*(?:(?:static|async|get|set) )*[#*]?[\w.[\]]+(?:<.*>)?\(.*\).*\{$/;
const OPEN_METHOD = /^\s*(?:(?:static|async|get|set) )*[#*]?[\w.[\]]+(?:<.*>)?\([{[]?$/;
const METHOD_BODY = /^\s*[}\]]?[^(]*\)[^(]*\{$/;

/** Every function of a source: declarations, arrow functions, methods, callbacks with a body. */
export function functionsOf({ path, code, bare }: Source): FunctionLength[] {
  const shown = code.split("\n"), lines = bare.split("\n");
  return lines.flatMap((_, i) => {
    if (!isHead(lines, i)) return [];
    return [{ path, line: i + 1, text: shown[i].trim(), lines: lastLine(lines, i) - i + 1 }];
  });
}

function isHead(lines: readonly string[], i: number): boolean {
  const line = lines[i];
  if (FUNCTION.test(line) || ARROW_BODY.test(line)) return true;
  if (ARROW.test(line)) return lines.slice(i, lastLine(lines, i) + 1).some((text) => text.includes("=>"));
  if (WORD.test(line)) return false;
  if (METHOD.test(line)) return true;
  if (!OPEN_METHOD.test(line)) return false;
  const close = lines.findIndex((text, j) => j > i && indent(text) === indent(line));
  return close > 0 && METHOD_BODY.test(lines[close]);
}

/** The line that closes what a line opens: the next one of its indentation that does not open something again. */
function lastLine(lines: readonly string[], start: number): number {
  const own = indent(lines[start]);
  for (let i = start + 1; i < lines.length; i++) {
    if (lines[i].trim() === "" || indent(lines[i]) > own) continue;
    if (indent(lines[i]) < own || !/^\s*[)\]}>]/.test(lines[i])) return i - 1;
    if (!/([{([<=]|=>)$/.test(lines[i].trimEnd())) return i;
  }
  return lines.length - 1;
}

function indent(line: string): number {
  return line.trim() === "" ? Infinity : line.length - line.trimStart().length;
}
