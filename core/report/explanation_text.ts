/**
 * What a run froze, why, and what that saved, as text.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { endingText, flopText, percent } from "./cost_text.ts";
import { short } from "./numbers.ts";
import { printable } from "./printable.ts";
import type { Change, Explanation, Moved, Paid } from "./types.ts";

/** How text is styled. */
export interface Style {
  /** Whether escape codes may colour the text. */
  readonly color: boolean;
}

type Cell = readonly [text: string, align?: "right" | undefined];

/**
 * Writes an explanation as text with aligned columns.
 *
 * @param explanation What a run did
 * @param style Whether to colour it
 * @returns Lines
 */
export function explanationText(explanation: Explanation, style: Style): string {
  const { config, adapter, steps, planned, finished, ending, changes } = explanation;
  const state = finished ? "finished" : "under way, or interrupted";
  const head = [
    [
      "run",
      `${state}, ${planned === null ? "" : `${steps} of `}${counted(planned ?? steps, "step")}${
        endingText(ending)
      }`,
    ],
    ["model", valueText(config.model)],
    ["policy", valueText(config.policy)],
    ["adapter", adapter],
  ];
  const sections = [facts(head), ...changes.map((change) => changeText(change, { changes, style }))];
  if (changes.length === 0) sections.push("Nothing was frozen.");
  sections.push(facts(totals(explanation)));
  return sections.join("\n\n") + "\n";
}

function facts(rows: readonly (readonly string[])[]): string {
  return rows.map(([label, value]) => `${label.padEnd(11)} ${oneLine(value)}`).join("\n");
}

/** A value of a log: text as it is, all else as JSON. */
function valueText(value: unknown): string {
  return typeof value === "string" ? value : value == null ? "–" : JSON.stringify(value);
}

/** Text of a log in a row of its own: a log may come from a stranger. */
function oneLine(text: string): string {
  return printable(text).replace(/\s+/g, " ");
}

function changeText(
  change: Change,
  { changes, style }: { readonly changes: readonly Change[]; readonly style: Style },
): string {
  const { step, frozen, thawed, before, after } = change;
  const counts = [
    ...frozen.length > 0 ? [`${frozen.length} froze`] : [],
    ...thawed.length > 0 ? [`${thawed.length} thawed`] : [],
  ];
  const title = `step ${step}: ${counts.join(", ")}`;
  const full = changes[0].before.cost.matmulFlops;
  const told = frozen.some(({ reason, flops }) => reason !== null || flops !== null);
  const head = ["component", "signal", "value", "threshold", "saves", "of a step", "rule"];
  const rows: Cell[][] = [
    told ? head.map((text, i): Cell => i > 1 && i < 6 ? [text, "right"] : [text]) : [["component"]],
    ...frozen.map((moved) => told ? rowOf(moved, full) : [[moved.path] as const]),
    ...thawed.map(({ path, heldFor }): Cell[] => [[path], [
      heldFor === undefined ? "thawed" : `thawed after ${counted(heldFor, "step")}`,
    ]]),
  ];
  const [columns, ...body] = table(rows);
  const named = frozen.length > 0 ? [paint(columns, "2", style), ...body] : body;
  return [`${paint(title, "1", style)}    ${paidText(before, after)}`, ...named.map((row) => `  ${row}`)]
    .join("\n");
}

function rowOf({ path, reason, flops }: Moved, full: number): Cell[] {
  const number = (value: number | null | undefined): Cell => [value == null ? "–" : short(value, 4), "right"];
  return [
    [path],
    [reason?.signal ?? "–"],
    number(reason?.value),
    number(reason?.threshold),
    [flops === null ? "–" : flopText(flops), "right"],
    [flops === null || full === 0 ? "–" : `${(100 * flops / full).toFixed(1)} %`, "right"],
    [reason?.rule ?? "–"],
  ];
}

/** Characters of a cell. */
const WIDEST = 400;

/** Rows in columns of equal width. Only the last cell of a row may be wider than its column. */
function table(given: readonly (readonly Cell[])[]): string[] {
  const rows = given.map((row) => row.map(([text, align]): Cell => [oneLine(text).slice(0, WIDEST), align]));
  const widths = rows[0].map((_, i) =>
    Math.max(...rows.map((row) => i < row.length - 1 ? row[i][0].length : 0))
  );
  return rows.map((row) =>
    row.map(([text, align], i) => align === "right" ? text.padStart(widths[i]) : text.padEnd(widths[i])).join(
      "  ",
    )
      .trimEnd()
  );
}

function paidText(before: Paid, after: Paid): string {
  if (after.cost.launches === 0) return "training ended";
  const pair = (was: string, is: string, change: string): string =>
    `${was} → ${is}${change === "" ? "" : ` (${change})`}`;
  const { launches, matmulFlops: flops } = before.cost, { launches: fewer, matmulFlops: left } = after.cost;
  const parts = [
    `launches ${pair(String(launches), String(fewer), percent(launches, fewer))}`,
    pair(flopText(flops), flopText(left), percent(flops, left)),
  ];
  const ms = before.stepMs, now = after.stepMs;
  if (ms !== null && now !== null) parts.push(pair(`${short(ms)} ms`, `${short(now)} ms`, percent(ms, now)));
  return parts.join(", ");
}

function totals(explanation: Explanation): string[][] {
  const { changes, frozen, active, share, flopShare, quality, steps } = explanation;
  const percentOf = (part: number): string => `${(100 * part).toFixed(1)} %`;
  const count = `${frozen.length} of ${counted(frozen.length + active.length, "component")}`;
  const rows = [["frozen", share === null ? count : `${count}, ${percentOf(share)} of their elements`]];
  if (changes.length > 0) {
    const { before, after } = changes[changes.length - 1];
    rows.push(["a step", paidText(changes[0].before, after.cost.launches === 0 ? before : after)]);
  }
  if (flopShare !== null) {
    rows.push([
      "the run",
      `${percentOf(flopShare)} of the FLOPs of ${counted(steps, "step")} without a freeze`,
    ]);
  }
  if (active.length > 0) rows.push(["active", listOf(active)]);
  const { before, after } = quality;
  for (const key of ["perplexity", "accuracy"] as const) {
    if (before[key] === undefined) continue;
    rows.push([
      key,
      after?.[key] === undefined ? short(before[key]) : `${short(before[key])} → ${short(after[key])}`,
    ]);
  }
  return rows;
}

const MOST_NAMES = 8;

function listOf(paths: readonly string[]): string {
  const rest = paths.length - MOST_NAMES;
  return paths.slice(0, MOST_NAMES).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}

function paint(text: string, code: string, { color }: Style): string {
  return color ? `\x1b[${code}m${text}\x1b[0m` : text;
}
