/**
 * Reads the ring buffer on the device into the look that a policy gets.
 *
 * @module
 */

import { NonFiniteError } from "../../errors.ts";
import type { Gpu } from "../../runtime/device.ts";
import type { Precision } from "../../plan/types.ts";
import { readBuffers } from "../../runtime/readback.ts";
import { storageOf } from "../../runtime/residents.ts";
import type { Schedule } from "../../optim/schedules.ts";
import type { Component, Look, SignalDefinition } from "../../policy.ts";
import type { Tensor } from "../../tensor.ts";
import type { Path } from "../../tree.ts";
import { moduleOf } from "./components.ts";
import { type Column, columnsBefore, NO_LABELS, SKIPPED } from "./ring.ts";

/** What the numbers of a ring mean. */
export interface LookOptions {
  /** Last step in the ring, 1-based. */
  readonly step: number;
  /** Signals in a row, in order. */
  readonly columns: readonly Column[];
  readonly components: readonly Component[];
  readonly signals: readonly SignalDefinition[];
  readonly learningRate?: Schedule;
  readonly precision: Precision;
  /** Whether steps that are not finite are skipped. */
  readonly skips: boolean;
  /** Names of the metrics of the loss, in order; none when absent. */
  readonly metrics?: readonly string[];
  /** Whether the factor that clips gradients comes after them; false when absent. */
  readonly clips?: boolean;
}

/** A number that must be finite and is not. */
export interface NonFiniteReading {
  /** The loss, or a signal of a component. */
  readonly what: string;
  /** The step. */
  readonly step: number;
  readonly value: number;
}

/** The steps since the last look, and the first number among their readings that is not finite. */
export interface Readings {
  readonly look: Look;
  /** Null when all are finite. The loss of a step comes before its signals. */
  readonly nonFinite: NonFiniteReading | null;
  /** Steps that the device left out as something was not finite. */
  readonly leftOut: readonly number[];
  /** Whether a step was skipped as its loss, or with f32 a gradient, was not finite. */
  readonly isSkipped: boolean;
}

/**
 * Reads the steps since the last look. A component's reading is the sum over its parameters.
 *
 * @param gpu The device
 * @param ring f32 [steps between looks, 1 + signals], with `"f16"` one column more
 * @param options What the numbers mean
 * @returns The look; NaN where nothing was measured, and in steps whose batch has no labels
 * @throws {NonFiniteError} When a gradient is not finite at a loss scale of 1
 */
export async function readLook(gpu: Gpu, ring: Tensor, options: LookOptions): Promise<Readings> {
  const { step, columns, components, signals, learningRate, precision, skips, metrics = [], clips = false } =
    options;
  const [rows, width] = ring.shape;
  const [bytes] = await readBuffers(gpu, [{ buffer: storageOf(ring).buffer, bytes: 4 * rows * width }]);
  const values = new Float32Array(bytes);
  const count = (step - 1) % rows + 1;
  const steps = Array.from({ length: count }, (_, i) => step - count + 1 + i);
  const at = (s: number, column: number): number => values[((s - 1) % rows) * width + column];
  const overflowed = precision === "f16" ? steps.filter((s) => at(s, 1) > 0) : [];
  const watched = columnsBefore(precision),
    clipped = watched + metrics.length,
    before = clipped + (clips ? 1 : 0);
  const bare = steps.filter((s) => at(s, 0) === NO_LABELS);
  const lossless = steps.filter((s) => skips && (at(s, 0) === SKIPPED || !Number.isFinite(at(s, 0))));
  const leftOut = steps.filter((s) => overflowed.includes(s) || lossless.includes(s));
  const skipped = steps.filter((s) => bare.includes(s) || leftOut.includes(s));
  // At a scale of 1, a smaller one would not help.
  const lost = skips ? undefined : overflowed.find((s) => at(s, 1) <= 1);
  if (lost !== undefined) throw new NonFiniteError("gradient", lost, Infinity);
  const readings: Record<string, Record<Path, number[]>> = {};
  for (const { name } of signals) {
    const measured = Map.groupBy(
      columns.map((column, i) => ({ ...column, at: i + before })).filter(({ signal }) => signal === name),
      ({ path }) => moduleOf(path),
    );
    readings[name] = Object.fromEntries(components.map(({ path }) => {
      const own = measured.get(path);
      return [
        path,
        steps.map((s) => own === undefined || bare.includes(s) ? NaN : reading(own, (i) => at(s, i))),
      ];
    }));
  }
  const look: Look = {
    steps,
    loss: steps.map((s) => bare.includes(s) || lossless.includes(s) ? NaN : at(s, 0)),
    learningRate: steps.map((s) => learningRate?.(s) ?? NaN),
    readings,
    ...clips && { clip: steps.map((s) => bare.includes(s) ? NaN : at(s, clipped)) },
    ...metrics.length > 0 && {
      metrics: Object.fromEntries(
        metrics.map((name, i) => [
          name,
          steps.map((s) => bare.includes(s) || lossless.includes(s) ? NaN : at(s, watched + i)),
        ]),
      ),
    },
    ...((precision === "f16" || skips || bare.length > 0) && { skipped }),
  };
  return {
    look,
    nonFinite: firstNonFinite(look, { bare: [...bare, ...lossless], columns }),
    leftOut,
    isSkipped: lossless.length > 0,
  };
}

/** The reading of a component, from the numbers of its parameters. */
function reading(
  own: readonly (Column & { readonly at: number })[],
  valueAt: (column: number) => number,
): number {
  const [{ terms: { joins, value } }] = own;
  const numbers = joins.map((join, term) => {
    const all = own.filter((column) => column.term === term).map((column) => valueAt(column.at));
    return join === "max" ? Math.max(...all) : all.reduce((sum, number) => sum + number, 0);
  });
  return value(numbers, own.reduce((n, { term, size }) => term === 0 ? n + size : n, 0));
}

/**
 * The first number of a look that must be finite and is not. A gradient that is not finite makes the weights so, and the loss
 * only of the next step. A signal of the gradient before is NaN where there is none, and one of one's own may be anything.
 */
function firstNonFinite(
  { steps, loss, readings, skipped = [] }: Look,
  { bare, columns }: { readonly bare: readonly number[]; readonly columns: readonly Column[] },
): NonFiniteReading | null {
  const measured = new Map(
    columns.filter(({ finite }) => finite)
      .map(({ signal, path }) => [`${signal} of "${moduleOf(path)}"`, readings[signal][moduleOf(path)]]),
  );
  for (const [i, step] of steps.entries()) {
    if (!bare.includes(step) && !Number.isFinite(loss[i])) return { what: "loss", step, value: loss[i] };
    if (skipped.includes(step)) continue;
    for (const [what, values] of measured) {
      if (!Number.isFinite(values[i])) return { what, step, value: values[i] };
    }
  }
  return null;
}
