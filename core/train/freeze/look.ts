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
import type { Component, Look, Signal } from "../../policy.ts";
import type { Tensor } from "../../tensor.ts";
import type { Path } from "../../tree.ts";
import { type Column, columnsBefore } from "./ring.ts";

/** What the numbers of a ring mean. */
export interface LookOptions {
  /** Last step in the ring, 1-based. */
  readonly step: number;
  /** Signals in a row, in order. */
  readonly columns: readonly Column[];
  readonly components: readonly Component[];
  readonly signals: readonly Signal[];
  readonly learningRate?: Schedule;
  readonly precision: Precision;
}

/**
 * Reads the steps since the last look. A component's reading is the sum over its parameters.
 *
 * @param gpu The device
 * @param ring f32 [steps between looks, 1 + signals], with `"f16"` one column more
 * @param options What the numbers mean
 * @returns The look; NaN where nothing was measured
 * @throws {NonFiniteError} When a gradient is not finite at a loss scale of 1
 */
export async function readLook(gpu: Gpu, ring: Tensor, options: LookOptions): Promise<Look> {
  const { step, columns, components, signals, learningRate, precision } = options;
  const [rows, width] = ring.shape;
  const [bytes] = await readBuffers(gpu, [{ buffer: storageOf(ring).buffer, bytes: 4 * rows * width }]);
  const values = new Float32Array(bytes);
  const count = (step - 1) % rows + 1;
  const steps = Array.from({ length: count }, (_, i) => step - count + 1 + i);
  const at = (s: number, column: number): number => values[((s - 1) % rows) * width + column];
  const before = columnsBefore(precision), skipped = before === 1 ? [] : steps.filter((s) => at(s, 1) > 0);
  // At a scale of 1, a smaller one would not help.
  const lost = skipped.find((s) => at(s, 1) <= 1);
  if (lost !== undefined) throw new NonFiniteError("gradient", lost, Infinity);
  const readings: { [S in Signal]?: Record<Path, number[]> } = {};
  for (const signal of signals) {
    const columnOf = new Map(
      columns.flatMap((c, i) => c.signal === signal ? [[c.path, i + before] as const] : []),
    );
    readings[signal] = Object.fromEntries(components.map(({ path, parameters }) => {
      const own = parameters.flatMap((p) => columnOf.get(p) ?? []);
      return [
        path,
        steps.map((s) => own.length === 0 ? NaN : own.reduce((sum, column) => sum + at(s, column), 0)),
      ];
    }));
  }
  return {
    steps,
    loss: steps.map((s) => at(s, 0)),
    learningRate: steps.map((s) => learningRate?.(s) ?? NaN),
    readings,
    ...(precision === "f16" && { skipped }),
  };
}
