/**
 * Runs the parts of a step: each adds its gradients to sums on the device.
 *
 * @module
 */

import type { Plan } from "../../plan/types.ts";
import { bytesOf } from "../../plan/storage.ts";
import { createBuffer, destroyBuffer, writeValues } from "../../runtime/buffers.ts";
import type { Gpu } from "../../runtime/device.ts";
import type { Resolve } from "../../runtime/plan_buffers.ts";
import { record } from "../../runtime/record.ts";
import type { HostData } from "../../sources.ts";
import type { Spec } from "../../spec.ts";
import type { Path } from "../../tree.ts";
import { PART_DRAW, PART_WEIGHT } from "../state/specs.ts";
import type { BatchBuffers } from "./batch_buffers.ts";

/** What the parts of a step compute. */
export interface PlannedPart {
  readonly plan: Plan;
  /** Specs of the sums by path. */
  readonly sums: ReadonlyMap<Path, Spec>;
}

/** A part of a step. */
export interface Part {
  /** Values of its batch. */
  readonly values: ReadonlyMap<Path, HostData>;
  /** Its share of the labels of the step. */
  readonly weight: number;
}

/** The sums of a step, and what adds to them. */
export interface Accumulation {
  /** The buffer of a sum; undefined for any other path. */
  buffer(path: Path): GPUBuffer | undefined;
  /**
   * Sets the sums to those of some parts.
   *
   * @param step Whose parts they are
   * @param parts They
   * @param most How many parts a step may have, so that each draws random numbers of its own
   */
  run(step: number, parts: readonly Part[], most: number): void;
  /** Frees all. */
  destroy(): void;
}

/**
 * Records the parts of a step.
 *
 * @param gpu The device
 * @param part The plan and its sums
 * @param options Buffers of parameters and state by leaf, and those of the batch
 * @returns The sums
 * @throws {OutOfMemoryError} When the device has no room
 */
export async function recordParts(
  gpu: Gpu,
  { plan, sums }: PlannedPart,
  { resolve, inputs }: { readonly resolve: Resolve; readonly inputs: BatchBuffers },
): Promise<Accumulation> {
  const own = new Map<Path, GPUBuffer>();
  const make = (path: Path, bytes: number): void =>
    void own.set(path, createBuffer(gpu, { label: path, bytes }));
  const free = (): void => own.forEach((buffer) => destroyBuffer(buffer));
  try {
    for (const [path, spec] of sums) make(path, bytesOf(spec));
    for (const path of [PART_WEIGHT, PART_DRAW]) make(path, bytesOf({ shape: [], dtype: "f32" }));
    const recording = await record(gpu, {
      plan,
      label: "part of a step",
      resolve: (leaf) => own.get((leaf.attrs as { path: Path }).path) ?? resolve(leaf),
    });
    let fresh = true;
    return {
      buffer: (path) => own.get(path),
      run(step, parts, most) {
        // The step before has changed the weights.
        if (fresh) fresh = false;
        else recording.copyWeights();
        const encoder = gpu.device.createCommandEncoder();
        for (const path of sums.keys()) encoder.clearBuffer(own.get(path)!);
        gpu.device.queue.submit([encoder.finish()]);
        gpu.counts.submits++;
        for (const [i, { values, weight }] of parts.entries()) {
          inputs.write(values);
          writeValues(gpu, own.get(PART_WEIGHT)!, Float32Array.of(weight));
          writeValues(gpu, own.get(PART_DRAW)!, Float32Array.of((step - 1) * most + i + 1));
          recording.replay(step);
        }
      },
      destroy() {
        recording.destroy();
        free();
      },
    };
  } catch (error) {
    free();
    throw error;
  }
}
