/**
 * Finished runs by columns, as `study_runs.jsonl` keeps them in the repository: a third of what they take in `lines.jsonl`.
 *
 * The first line names the columns and lists the values of those that repeat, which runs name by their place in the list. Each line
 * below is a run, or a comparison of the cache, whose runs stand in pairs. A curve has its inner points alone, four numbers each:
 * its ends are the start and the end of the run. Numbers have six digits as in `lines.jsonl`, those of inner points five.
 *
 * @module
 */

import { DataError, InputError } from "@firn/train";
import type { CacheResult } from "./study_cache.ts";
import { type CurvePoint, parseLines, type StudyLine } from "./study_lines.ts";

/** Runs, and results of the cache. */
export interface StudyRuns {
  readonly lines: readonly StudyLine[];
  readonly cache: readonly CacheResult[];
}

/** Columns whose values repeat, those that a run may lack, and all others. */
const COLUMNS: Readonly<Record<keyof StudyLine, "shared" | "optional" | "own">> = {
  task: "shared",
  arm: "shared",
  purpose: "shared",
  policy: "shared",
  precision: "shared",
  versions: "shared",
  date: "shared",
  rate: "own",
  seed: "own",
  planned: "own",
  steps: "own",
  best: "own",
  seconds: "own",
  setup: "own",
  compiling: "own",
  changing: "own",
  validating: "own",
  flops: "own",
  joules: "own",
  peakBytes: "own",
  quality: "own",
  loss: "own",
  validation: "own",
  start: "own",
  perplexity: "own",
  frozen: "own",
  components: "own",
  tau: "own",
  wall: "optional",
  together: "optional",
  curve: "own",
};
const NAMES = Object.keys(COLUMNS) as (keyof StudyLine)[];

/** The first line of the file. */
interface Head {
  readonly columns: readonly string[];
  readonly shared: { readonly [column: string]: readonly unknown[] };
}

/** A run in the order of the columns. */
type Row = readonly unknown[];
/** A comparison of the cache with its runs as rows. */
type CacheRow = Omit<CacheResult, "pairs"> & {
  readonly pairs: readonly (readonly [full: Row, cached: Row])[];
};

/** A value with fewer digits in all its numbers. */
function rounded<T>(value: T, digits: number): T {
  const shorter = (_: string, one: unknown): unknown =>
    typeof one === "number" ? Number(one.toPrecision(digits)) : one;
  return JSON.parse(JSON.stringify(value, shorter));
}

/** The curve of a run by its inner points; none where numbers left the finite in the first steps. */
function curveOf(
  { start, seconds, steps, flops, quality }: Omit<StudyLine, "curve">,
  inner: readonly CurvePoint[],
): StudyLine["curve"] {
  return steps === 0 ? [] : [[0, 0, 0, start], ...inner, [seconds, steps, flops, quality]];
}

/**
 * A run as it is kept: with fewer digits, and the day of its date.
 *
 * @param line The run
 * @returns It, as it is read from the file
 * @throws {InputError} When its curve does not begin and end as the run does
 */
export function keptLine(line: StudyLine): StudyLine {
  const short = { ...rounded(line, 6), date: line.date.slice(0, 10) };
  const curve = curveOf(short, rounded(line.curve.slice(1, -1), 5));
  const endsOf = (points: StudyLine["curve"]): string => JSON.stringify([points[0], points.at(-1)]);
  if (endsOf(curve) === endsOf(short.curve)) return { ...short, curve };
  throw new InputError(
    `Cannot keep a run as its curve must begin at its start and end at its end: got ${
      endsOf(short.curve)
    } of ${JSON.stringify([line.task, line.arm, line.rate, line.seed, line.purpose])}; make it again`,
  );
}

/** Places of values in a list that grows with them. */
function placesIn(values: unknown[]): (value: unknown) => number {
  const places = new Map<string, number>();
  return (value) => {
    const text = JSON.stringify(value);
    if (!places.has(text)) places.set(text, values.push(value) - 1);
    return places.get(text)!;
  };
}

/** Numbers of a row as JSON, with an exponent for zeros at their end. */
function rowText(row: unknown): string {
  return JSON.stringify(row).replace(/(?<=\d)0{4,}(?=[,\]])/g, (zeros) => `e${zeros.length}`);
}

/**
 * Runs as the text of the file.
 *
 * @param runs Runs, and results of the cache
 * @returns Lines
 */
export function keptText({ lines, cache }: StudyRuns): string {
  const shared = Object.fromEntries(
    NAMES.filter((name) => COLUMNS[name] === "shared").map((name) => [name, [] as unknown[]]),
  );
  const placeOf = new Map(Object.entries(shared).map(([name, values]) => [name, placesIn(values)]));
  const rowOf = (line: StudyLine): string => {
    const { curve, ...rest } = keptLine(line), values: Record<string, unknown> = rest;
    return rowText(NAMES.map((name) => {
      if (name === "curve") return curve.slice(1, -1).flat();
      return placeOf.get(name)?.(values[name]) ?? values[name] ?? null;
    }));
  };
  const rows = lines.map(rowOf);
  const compared = cache.map(({ task, epochs, pairs }) =>
    `{"task":${JSON.stringify(task)},"epochs":${epochs},"pairs":[${
      pairs.map(({ full, cached }) => `[${rowOf(full)},${rowOf(cached)}]`).join(",")
    }]}`
  );
  const head: Head = { columns: NAMES, shared };
  return [JSON.stringify(head), ...rows, ...compared].map((line) => `${line}\n`).join("");
}

/** The run of a row. */
function lineIn(row: Row, { columns, shared }: Head): StudyLine {
  const values = columns.map((name, i) => [name, name in shared ? shared[name][row[i] as number] : row[i]]);
  const optional = (name: unknown): boolean => COLUMNS[name as keyof StudyLine] === "optional";
  const line = Object.fromEntries(values.filter(([name, value]) => value !== null || !optional(name)));
  const numbers: number[] = line.curve;
  const inner = Array.from({ length: numbers.length / 4 }, (_, i) => numbers.slice(4 * i, 4 * i + 4));
  return { ...line, curve: curveOf(line, inner as unknown as CurvePoint[]) };
}

/**
 * Reads the text of the file.
 *
 * @param text Lines
 * @param path Its path, for errors
 * @returns Runs, and results of the cache
 * @throws {DataError} When a line is no JSON, or the first one does not name the columns
 */
export function parseKept(text: string, path: string): StudyRuns {
  // A last line without an end is none that was cut off: this file is written at once.
  const whole = text.endsWith("\n") ? text : `${text}\n`;
  const [head, ...rows] = parseLines(whole, path) as unknown as [Head | undefined, ...(Row | CacheRow)[]];
  if (!Array.isArray(head?.columns)) {
    throw new DataError(`Cannot read "${path}" as its first line must name the columns: make it with --keep`);
  }
  const of = (row: Row): StudyLine => lineIn(row, head);
  const isRun = (row: Row | CacheRow): row is Row => Array.isArray(row);
  return {
    lines: rows.filter(isRun).map(of),
    cache: rows.filter((row) => !isRun(row)).map((result) => ({
      ...result as CacheRow,
      pairs: (result as CacheRow).pairs.map(([full, cached]) => ({ full: of(full), cached: of(cached) })),
    })),
  };
}
