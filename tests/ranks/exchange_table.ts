/**
 * The table in the documentation of ranks: what to exchange on which cluster.
 *
 * @module
 */

import { chooseExchange, exchangeSeconds } from "@firn/train/ranks";

const TRAINED = [["all of 1 B", 1e9], ["LoRA, 10 M", 10e6]] as const;
/** GPUs, and from one host to another: in one place, and between two. */
const CLUSTERS = [[8, 20e-6], [64, 20e-6], [1024, 20e-6], [16, 0.05]] as const;
const GIGABITS = [10, 25, 100, 400];
/** A step without an exchange. */
const STEP_SECONDS = 0.5;

function milliseconds(seconds: number): string {
  return `${(1000 * seconds).toLocaleString("en-US", { maximumSignificantDigits: 2 })} ms`;
}

function cellOf(trained: number, { gigabits, ...cluster }: {
  readonly ranks: number;
  readonly latency: number;
  readonly gigabits: number;
}): string {
  const line = { ...cluster, bitsPerSecond: gigabits * 1e9 };
  const { of, every, wire, seconds } = chooseExchange({ ...line, trained, stepSeconds: STEP_SECONDS });
  const gradients = milliseconds(exchangeSeconds({ ...line, bytes: 4 * trained }));
  return of === "gradients" ? gradients : `${gradients}: ${wire}, every ${every}, ${milliseconds(seconds)}`;
}

/** Lines of a table in Markdown, with columns of one width. */
export function tableLines(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i].length)));
  const lineOf = (row: readonly string[]): string =>
    `| ${row.map((cell, i) => cell.padEnd(widths[i])).join(" | ")} |`;
  return [head, widths.map((n) => "-".repeat(n)), ...rows].map(lineOf);
}

/** Makes the lines of the table. */
export function exchangeTable(): string[] {
  const head = ["trained", "GPUs", ...GIGABITS.map((n) => `${n} Gbit/s`)];
  const rows = TRAINED.flatMap(([name, trained]) =>
    CLUSTERS.map(([ranks, latency]) => [
      name,
      `${ranks.toLocaleString("en-US")}${latency < 0.01 ? "" : `, ${1000 * latency} ms apart`}`,
      ...GIGABITS.map((gigabits) => cellOf(trained, { ranks, latency, gigabits })),
    ])
  );
  return tableLines(head, rows);
}

if (import.meta.main) { for (const line of exchangeTable()) console.log(` * ${line}`); }
