/**
 * The help text of a table of flags: all of it where it fits a screen, else the flags by topic, and a screen for each topic.
 *
 * @module
 */

import { type Flag, type Table, topicsOf } from "./flags.ts";

/** A screen. */
export const SCREEN = { lines: 40, columns: 100 } as const;

/** The widest column of flags. */
const WIDEST = 30;

type Row = readonly [left: string, right: string];

/**
 * Writes the help text of a table.
 *
 * @param usage First lines: the command and what it does
 * @param table The flags
 * @param help The topic of `--help TOPIC`; anything else for all
 * @returns The text
 */
export function helpOf(usage: string, table: Table, help: boolean | string = true): string {
  const flags = Object.entries(table), topics = topicsOf(table);
  if (typeof help === "string") {
    return `flags about ${help}\n\n${
      columnsOf(flags.filter(([, flag]) => flag.topic === help).map(rowOf))
    }\n`;
  }
  const whole = `${usage}\n\n${columnsOf([...flags.map(rowOf), ["--help, -h", "show this"]])}\n`;
  if (topics.length < 2 || whole.split("\n").length <= SCREEN.lines) return whole;
  const names = topics.map((name): Row => [
    name,
    flags.filter(([, flag]) => flag.topic === name).map(([key]) => `--${key}`).join(" "),
  ]);
  return `${usage}\n\n${columnsOf(names)}\n\n--help TOPIC, such as --help ${topics[0]}, says what they do.\n`;
}

function rowOf([name, { placeholder, about, fallback }]: readonly [string, Flag<unknown>]): Row {
  const known = fallback !== null && fallback !== false && String(fallback) !== "";
  return [`--${name} ${placeholder}`.trimEnd(), known ? `${about} [${fallback}]` : about];
}

/** Two columns, the right one wrapped. */
function columnsOf(rows: readonly Row[]): string {
  const width = Math.min(WIDEST, Math.max(...rows.map(([left]) => left.length)));
  return rows.flatMap(([left, right]) => {
    const [first, ...others] = wrapped(right, SCREEN.columns - width - 4);
    const rest = others.map((line) => `${" ".repeat(width + 4)}${line}`);
    return left.length <= width
      ? [`  ${left.padEnd(width)}  ${first}`, ...rest]
      : [`  ${left}`, `${" ".repeat(width + 4)}${first}`, ...rest];
  }).join("\n");
}

/** Breaks a text at spaces into lines of at most so many characters, where its words allow it. */
function wrapped(text: string, most: number): readonly string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= most) lines.push(`${lines.pop()} ${word}`);
    else lines.push(word);
  }
  return lines;
}
