/**
 * The ring buffer of readings: one row a step, as many rows as there are steps between looks.
 *
 * A row holds the loss, with f16 the overflow, the metrics of the loss, the factor that clipped the gradients, and one column
 * for each number that a signal sums up for a parameter. The row of a step whose batch has no labels is written by the host.
 *
 * @module
 */

import type { Optimizer } from "../../optim/optimizer.ts";
import type { Precision } from "../../plan/types.ts";
import type { SignalDefinition, SignalTerms } from "../../policy.ts";
import type { Gpu } from "../../runtime/device.ts";
import { storageOf } from "../../runtime/residents.ts";
import type { Spec } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import type { Path } from "../../tree.ts";
import { ACTIVATION } from "./built_in_signals.ts";
import { moduleOf } from "./components.ts";
import { type IsMeasured, leafTerms } from "./signals.ts";

/** What a column holds: a number that a signal sums up for a parameter. */
export interface Column {
  /** Name of the signal. */
  readonly signal: string;
  readonly path: Path;
  /** Elements of the parameter. */
  readonly size: number;
  /** All that the signal sums up for it, and which of that this is. */
  readonly terms: Omit<SignalTerms, "sums">;
  readonly term: number;
  /** Whether training stops where it is not finite. */
  readonly finite: boolean;
}

/**
 * The number of columns before those of metrics and signals: the loss, and with `"f16"` the scale of the loss at which
 * gradients overflowed, 0 when they did not.
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
 * @param params All parameters that may be active
 * @param options Steps between looks, and what is measured
 * @returns Rows and columns
 */
export function ringShape(
  params: ReadonlyMap<Path, Spec>,
  options: {
    readonly lookEvery: number;
    readonly signals: readonly SignalDefinition[];
    readonly isMeasured: IsMeasured;
    readonly precision: Precision;
    /** What the loss is watched by; nothing when absent. */
    readonly metrics?: { readonly names: readonly string[] };
    readonly optimizer: Pick<Optimizer, "clips">;
  },
): [rows: number, columns: number] {
  const { lookEvery, signals, isMeasured, precision, metrics, optimizer } = options;
  let columns = columnsBefore(precision) + (metrics?.names.length ?? 0) + (optimizer.clips ? 1 : 0);
  for (const signal of signals) {
    const measured = [...params].filter(([path]) => isMeasured(signal.name, path));
    columns += signal.name === ACTIVATION
      ? new Set(measured.map(([path]) => moduleOf(path))).size
      : measured.reduce(
        (n, [path, spec]) => n + (leafTerms(signal, { path, spec })?.terms.sums.length ?? 0),
        0,
      );
  }
  return [lookEvery, columns];
}

/** In place of the loss of a step whose batch has no labels: the lowest f32, as compilers of shaders may change a NaN. */
export const NO_LABELS: number = -(2 - 2 ** -23) * 2 ** 127;

/** In place of the loss of a step that was skipped, as it or a gradient was not finite: the highest f32. */
export const SKIPPED: number = -NO_LABELS;

/**
 * Writes the row of a step that was not taken, as its batch has no labels.
 *
 * @param gpu The device
 * @param ring The ring
 * @param step The step, 1-based
 */
export function writeNoLabels(gpu: Gpu, ring: Tensor, step: number): void {
  const [rows, width] = ring.shape, row = new Float32Array(width).fill(NaN);
  row[0] = NO_LABELS;
  gpu.device.queue.writeBuffer(storageOf(ring).buffer, 4 * width * ((step - 1) % rows), row);
}
