/**
 * What went wrong, counted: the one table of the torture.
 *
 * @module
 */

/** What is counted. All but `kills` must be 0. */
export const COLUMNS = ["kills", "lost", "torn", "raw", "accepted", "hangs", "over1GB"] as const;

/** One column of the table. */
export type Column = typeof COLUMNS[number];

/** Something that must not happen. */
export interface Failure {
  readonly column: Exclude<Column, "kills">;
  /** The part or the format. */
  readonly part: string;
  /** Its number in the part: with the seed, it makes the same input or the same kill again. */
  readonly number: number;
  /** What was done and what was seen. */
  readonly detail: string;
}

/** One row of the table. */
export interface Row {
  readonly part: string;
  /** What was tried, such as `93 inputs`. */
  readonly tried: string;
  readonly kills: number;
  readonly failures: readonly Failure[];
}

/**
 * Draws the table.
 *
 * @param rows A row for each part or format
 * @returns Its lines, the last of which is the total
 */
export function tableOf(rows: readonly Row[]): string {
  const counts = rows.map((row) => countsOf([row]));
  const cells = [
    ["", ...COLUMNS],
    ...rows.map(({ part, tried }, i) => [`${part} (${tried})`, ...counts[i].map(String)]),
    ["total", ...countsOf(rows).map(String)],
  ];
  const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  return cells.map((row) =>
    row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ").trimEnd()
  ).join("\n");
}

function countsOf(rows: readonly Row[]): number[] {
  const failures = rows.flatMap(({ failures }) => failures);
  return COLUMNS.map((name) =>
    name === "kills"
      ? rows.reduce((n, { kills }) => n + kills, 0)
      : failures.filter(({ column }) => column === name).length
  );
}
