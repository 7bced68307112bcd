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
import { ALL_WEIGHT, PART_DRAW, PART_WEIGHT } from "../state/specs.ts";
import type { BatchBuffers } from "./batch_buffers.ts";
import type { Summed } from "./exchange.ts";

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
  /** Its share of the labels of the step; of several ranks, its labels in their unit. */
  readonly weight: number;
}

/** Which numbers the parts of a step have. */
export interface Draws {
  /** Most parts of a step, of all ranks. */
  readonly of: number;
  /** The number of the first part of this rank, from 0. */
  readonly from: number;
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
   * @param draws What tells its parts apart from those of all ranks, so that each draws random numbers of its own
   */
  run(step: number, parts: readonly Part[], draws: Draws): void;
  /** The sums, in the order that all ranks have. */
  readonly summed: readonly Summed[];
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
    for (const path of [PART_WEIGHT, PART_DRAW, ALL_WEIGHT]) make(path, bytesOf({ shape: [], dtype: "f32" }));
    const recording = await record(gpu, {
      plan,
      label: "part of a step",
      resolve: (leaf) => own.get((leaf.attrs as { path: Path }).path) ?? resolve(leaf),
    });
    let fresh = true;
    return {
      buffer: (path) => own.get(path),
      summed: [...sums].map(([path, spec]) => ({ buffer: own.get(path)!, bytes: bytesOf(spec) })),
      run(step, parts, { of, from }) {
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
          writeValues(gpu, own.get(PART_DRAW)!, Float32Array.of((step - 1) * of + from + i + 1));
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
