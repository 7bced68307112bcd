/**
 * The ring buffer of readings: one row a step, as many rows as there are steps between looks.
 *
 * A row holds the loss, with f16 the overflow, and one column for each signal of each parameter that is measured.
 *
 * @module
 */

import type { Precision } from "../../plan/types.ts";
import type { Signal } from "../../policy.ts";
import type { Path } from "../../tree.ts";
import type { IsMeasured } from "./signals.ts";

/** What a column holds: a signal of a parameter. */
export interface Column {
  readonly signal: Signal;
  readonly path: Path;
}

/**
 * The number of columns before those of signals: the loss, and with `"f16"` the scale of the loss at which gradients
 * overflowed, 0 when they did not.
 *
 * @param precision How values are stored
 * @returns Columns
 */
export function columnsBefore(precision: Precision): number {
  return precision === "f16" ? 2 : 1;
}

/**
 * The shape of the ring, which is the same for all frozen sets.
 *
 * @param paths All parameters that may be active
 * @param options Steps between looks, and what is measured
 * @returns Rows and columns
 */
export function ringShape(
  paths: readonly Path[],
  options: {
    readonly lookEvery: number;
    readonly signals: readonly Signal[];
    readonly isMeasured: IsMeasured;
    readonly precision: Precision;
  },
): [rows: number, columns: number] {
  const { lookEvery, signals, isMeasured, precision } = options;
  const columns = signals.map((signal) => paths.filter((path) => isMeasured(signal, path)).length);
  return [lookEvery, columns.reduce((a, b) => a + b, columnsBefore(precision))];
}
