/**
 * Results as the tables of RESULTS.md.
 *
 * @module
 */

import { type FreezingRow, type FreezingTable, nameOfSet } from "./freezing.ts";
import type { Spread } from "./measure.ts";
import type { Results, Row, SideResult } from "./results.ts";

const digits = (value: number): string => value.toFixed(value < 10 ? 2 : value < 1000 ? 1 : 0);

/** A median with its ends. */
const ends = ({ median, min, max }: Spread): string => `${digits(median)} (${digits(min)} – ${digits(max)})`;

/** TFLOP/s of a time, the slowest first. */
function rates(flops: number, { median, min, max }: Spread): string {
  const rate = (ms: number): number => flops / ms / 1e9;
  return ends({ median: rate(median), min: rate(max), max: rate(min) });
}

const gib = (bytes: number | null): string => bytes === null ? "" : (bytes / 2 ** 30).toFixed(2);

const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return [line(heads), line(heads.map(() => "---")), ...rows.map(line)];
}

/** The sides of all rows, in the order in which they first come. */
const namesOf = (rows: readonly Row[]): string[] => [
  ...new Set(rows.flatMap(({ sides }) => sides.map(({ name }) => name))),
];

const sideOf = ({ sides }: Row, name: string): SideResult | undefined =>
  sides.find((side) => side.name === name);

/**
 * The geometric mean of TFLOP/s over the rows that count in it.
 *
 * @param rows Rows
 * @param name Whose
 * @returns The mean; null where it has not measured all of them, or there are none
 */
export function meanRate(rows: readonly Row[], name: string): number | null {
  const counted = rows.filter(({ averaged }) => averaged);
  const logs = counted.flatMap((row) => {
    const side = sideOf(row, name);
    return side === undefined ? [] : [Math.log(row.flops! / side.ms.median / 1e9)];
  });
  if (counted.length === 0 || logs.length < counted.length) return null;
  return Math.exp(logs.reduce((sum, log) => sum + log, 0) / logs.length);
}

function productTable(rows: readonly Row[]): string[] {
  const names = namesOf(rows);
  const cells = rows.map((row) => [
    row.work.replace("product ", ""),
    ...names.map((name) => {
      const side = sideOf(row, name);
      return side === undefined ? "" : rates(row.flops!, side.ms);
    }),
  ]);
  const means = names.map((name) => meanRate(rows, name)), counted = rows.filter(({ averaged }) => averaged);
  const last = [
    `geometric mean of ${counted.length}`,
    ...means.map((mean) => mean === null ? "" : digits(mean)),
  ];
  return table(["TFLOP/s", ...names], [...cells, ...counted.length > 0 ? [last] : []]);
}

function stepTable(rows: readonly Row[]): string[] {
  const names = namesOf(rows);
  const cells = rows.map((row) => {
    const sides = names.map((name) => sideOf(row, name));
    return [
      row.work,
      ...sides.map((side) => side === undefined ? "" : ends(side.ms)),
      // What was allocated at the peak, which may be more than planned.
      ...sides.map((side) => gib(side?.allocated?.peak ?? side?.memory ?? null)),
    ];
  });
  return table(["ms a step", ...names, ...names.map((name) => `GiB: ${name}`)], cells);
}

/** What the first side takes, and how many times as long the others take: for contenders that are all Firn. */
function ratioTable({ work, sides }: Row): string[] {
  const base = sides[0].ms.median;
  const cells = sides.map(({ name, ms, allocated }) => [
    name,
    ends(ms),
    (ms.median / base).toFixed(4),
    gib(allocated?.peak ?? null),
  ]);
  return table([work, "ms a step", "ratio", "GiB"], cells);
}

function freezingTable({ work, components, rows }: FreezingTable): string[] {
  const cells = rows.map((row: FreezingRow) => [
    nameOfSet(row),
    `${row.frozen}`,
    ends(row.ms),
    (row.matmulFlops / 1e9).toFixed(1),
    row.kind === "nothing" ? "" : row.saved.toFixed(2),
    row.kind === "nothing" ? "" : row.predicted.toFixed(2),
    row.predicted > 0 ? `${(100 * row.saved / row.predicted).toFixed(0)} %` : "",
  ]);
  const heads = [`frozen, ${work}`, `of ${components}`, "ms", "GFLOP", "saved, ms", "FLOPs promise", "share"];
  return table(heads, cells);
}

/**
 * The tables.
 *
 * @param results What was measured
 * @returns Lines of Markdown, an empty one between tables
 */
export function markdown({ rows, freezing }: Pick<Results, "rows" | "freezing">): string[] {
  const products = rows.filter(({ flops }) => flops !== null),
    steps = rows.filter(({ flops }) => flops === null);
  // Firn beside itself: the peers have allocations, too.
  const own = steps.filter(({ sides }) =>
    sides.length > 1 && sides.every(({ allocated }) => allocated !== null)
  );
  const others = steps.filter((row) => !own.includes(row));
  const tables = [
    products.length > 0 ? productTable(products) : [],
    others.length > 0 ? stepTable(others) : [],
    ...own.map(ratioTable),
    freezing === null ? [] : freezingTable(freezing),
  ];
  return tables.filter(({ length }) => length > 0).flatMap((lines, i) => i === 0 ? lines : ["", ...lines]);
}
