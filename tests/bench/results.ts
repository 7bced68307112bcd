/**
 * Results of the benchmark: what is written as JSON, and how it is printed.
 *
 * @module
 */

import { comparedWithPlan, type Memory } from "./allocated.ts";
import type { FreezingTable } from "./freezing.ts";
import { type Spread, spreadOf } from "./measure.ts";
import type { Refreeze } from "./refreeze.ts";
import { describeSide, type Side } from "./sides.ts";

/** What one contender measured. */
export interface SideResult {
  readonly name: string;
  readonly side: Side;
  /** Milliseconds of the first step: compiling, and whatever else is done once. */
  readonly first: number;
  /** Milliseconds in each round. */
  readonly times: readonly number[];
  readonly ms: Spread;
  /** Without clipping, for a peer that can leave it out; else null. */
  readonly unclipped: Spread | null;
  /** Bytes: planned for Firn, at the peak for PyTorch; null when unknown. */
  readonly memory: number | null;
  /** What Firn allocated; null for peers, and where nothing is planned. */
  readonly allocated: Memory | null;
  /** Loss after `lossAt` steps. */
  readonly loss: number | null;
}

/** One work: Firn, then its peers. */
export interface Row {
  readonly work: string;
  readonly flops: number | null;
  /** Whether it counts in the mean of TFLOP/s. */
  readonly averaged: boolean;
  readonly lossAt: number;
  readonly sides: readonly SideResult[];
}

/** Where and with what it was measured. */
export interface Machine {
  readonly adapter: string;
  /** True when a CPU plays the GPU: then no figure says anything about a GPU. */
  readonly software: boolean;
  readonly driver: string | null;
  readonly cores: number;
  readonly versions: Readonly<Record<string, string | null>>;
  readonly date: string;
}

/** Everything that a run of the benchmark found. */
export interface Results {
  readonly software: boolean;
  readonly machine: Machine;
  readonly rows: readonly Row[];
  readonly refreeze: Refreeze | null;
  readonly freezing: FreezingTable | null;
}

/** A side from what was measured of it. */
export function sideResult(
  { times, unclipped, ...rest }:
    & Omit<SideResult, "ms" | "unclipped">
    & { readonly unclipped: readonly number[] | null },
): SideResult {
  const without = unclipped === null ? null : spreadOf(unclipped);
  return { ...rest, times, ms: spreadOf(times), unclipped: without };
}

/** How many times as long a peer takes as Firn. */
export function ratioOf(row: Row, peer: SideResult): number {
  return peer.ms.median / row.sides[0].ms.median;
}

/** The lines of a row: one for each peer, or one alone. */
export function rowLines(row: Row): string[][] {
  const [firn, ...peers] = row.sides;
  const own = [
    row.work,
    shown(row, firn.ms),
    gib(firn.memory),
    gib(firn.allocated?.peak ?? null),
    firn.first.toFixed(0),
  ];
  if (peers.length === 0) return [[...own, "", "", "", "", ""]];
  return peers.map((peer, i) => [
    ...(i === 0 ? own : own.map(() => "")),
    peer.name,
    shown(row, peer.ms),
    peer.unclipped === null ? "" : shown(row, peer.unclipped, false),
    gib(peer.memory),
    ratioOf(row, peer).toFixed(3),
  ]);
}

/** Heads of the columns of {@link rowLines}. */
export const HEADS: readonly string[] = [
  "work",
  "Firn, ms",
  "GiB",
  "peak",
  "first",
  "peer",
  "ms",
  "no clip",
  "GiB",
  "peer/Firn",
];
/** Widths of the columns of {@link rowLines}: rows are printed as they come. */
const WIDTHS = [28, 22, 6, 6, 7, 18, 22, 8, 6, 9];

/** Aligns the cells of one line: names to the left, numbers to the right. */
export function line(cells: readonly string[]): string {
  return cells.map((cell, i) => i === 0 || i === 5 ? cell.padEnd(WIDTHS[i]) : cell.padStart(WIDTHS[i]))
    .join(" ").trimEnd();
}

/** Milliseconds with their spread, or TFLOP/s where the row has a count. */
function shown({ flops }: Row, { median, min, max }: Spread, ends = true): string {
  const digits = (value: number): string => value.toFixed(value < 10 ? 2 : 1);
  if (flops === null) {
    return digits(median) + (ends ? ` (${digits(min)}..${digits(max)})` : "");
  }
  const rate = (ms: number): string => digits(flops / ms / 1e9);
  return `${rate(median)} TF (${rate(max)}..${rate(min)})`;
}

const gib = (bytes: number | null): string => bytes === null ? "" : (bytes / 2 ** 30).toFixed(2);

/** What the change of the frozen set costs, in a line. */
export function refreezeLine({ step, frozenStep, extra, components }: Refreeze): string {
  const changes = Object.entries(extra).map(([name, ms]) => `${name} ${ms.toFixed(0)}`).join(", ");
  return `refreezing, gpt2-124m B 8: ${components} components; ms beyond two ordinary steps: ${changes}` +
    ` (a step with its look ${step.toFixed(1)}, half frozen ${frozenStep.toFixed(1)})`;
}

/** One line for each peer: how far ahead or behind it is over all works. */
export function summary(rows: readonly Row[]): string[] {
  const ratios = new Map<string, number[]>();
  for (const row of rows) {
    for (const peer of row.sides.slice(1)) {
      ratios.set(peer.name, [...ratios.get(peer.name) ?? [], ratioOf(row, peer)]);
    }
  }
  return [...ratios].map(([name, values]) => {
    const mean = Math.exp(values.reduce((sum, r) => sum + Math.log(r), 0) / values.length);
    const works = values.length === 1 ? "1 work" : `${values.length} works, geometric mean`;
    return `${name} takes ${mean.toFixed(3)} times as long as Firn (${works}; Firn is ahead in ${
      values.filter((r) => r > 1).length
    })`;
  });
}

/** Whether Firn's trainings allocated at their peak what was planned, in words: those that did not, one by one. */
export function memoryLines(rows: readonly Row[]): string[] {
  const trained = rows.flatMap(({ work, sides }) =>
    sides.flatMap(({ name, allocated }) => allocated === null ? [] : [{ who: `${work}, ${name}`, allocated }])
  );
  if (trained.length === 0) return [];
  const apart = trained.filter(({ allocated }) => comparedWithPlan(allocated) !== "as planned");
  return [
    `allocated at the peak: what was planned, to the byte, in ${trained.length - apart.length} of ` +
    `${trained.length} trainings of Firn (reading goes through one more buffer of the device)`,
    ...apart.map(({ who, allocated }) =>
      `  ${who}: planned ${allocated.planned} bytes, peak ${allocated.peak}: ${comparedWithPlan(allocated)}`
    ),
  ];
}

/** What each side does: a line for each difference, with the names of those who do so. */
export function fairness(rows: readonly Row[]): string[] {
  const names = new Map<string, Set<string>>();
  for (const { name, side } of rows.flatMap(({ sides }) => sides)) {
    const does = describeSide(side);
    if (names.has(does)) names.get(does)!.add(name);
    else names.set(does, new Set([name]));
  }
  return [...names].map(([does, who]) => `${[...who].join(", ")}: ${does}`);
}
