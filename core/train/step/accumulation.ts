/**
 * Runs the parts of a step: each adds its gradients to sums on the device.
 *
 * @module
 */

import { drawNumber } from "../../ops/random.ts";
import { wholeOf } from "../../plan/rows.ts";
import { bytesOf } from "../../plan/storage.ts";
import type { Plan } from "../../plan/types.ts";
import { createBuffer, destroyBuffer, writeValues } from "../../runtime/buffers.ts";
import type { Gpu } from "../../runtime/device.ts";
import type { Resolve } from "../../runtime/plan_buffers.ts";
import type { BoundKernel } from "../../runtime/pipelines.ts";
import { record } from "../../runtime/record.ts";
import { PORTION, submitPass } from "../../runtime/replay.ts";
import type { HostData } from "../../sources.ts";
import type { Spec } from "../../spec.ts";
import type { Path } from "../../tree.ts";
import { ALL_WEIGHT, PART_DRAW, PART_WEIGHT } from "../state/specs.ts";
import type { BatchBuffers } from "./batch_buffers.ts";
import { type Arena, arenasOf } from "./buckets.ts";
import type { Summed } from "../parameter_exchange.ts";

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

/** Where a sum is. */
export interface Place {
  readonly buffer: GPUBuffer;
  /** Its first byte. */
  readonly from: number;
}

/** The sums of a step, and what adds to them. */
export interface Accumulation {
  /** Where a sum is; undefined for any other path. */
  place(path: Path): Place | undefined;
  /**
   * Sets the sums to those of some parts. Where other ranks add to them, the launches of the last part are submitted as `summed`
   * asks for them.
   *
   * @param step Whose parts they are
   * @param parts They
   * @param draws What tells its parts apart from those of all ranks, so that each draws random numbers of its own
   */
  run(step: number, parts: readonly Part[], draws: Draws): void;
  /** Buffers of the sums, in the order in which the last part completes them; of no use but to ranks. */
  readonly summed: readonly Summed[];
  /** Frees all. */
  destroy(): void;
}

/** What {@link recordParts} needs besides the plan. */
export interface PartOptions {
  /** Finds buffers of parameters and state. */
  readonly resolve: Resolve;
  /** Those of the batch. */
  readonly inputs: BatchBuffers;
  /** Whether other ranks add to the sums: these then lie beside each other, and are ready one after the other. */
  readonly shared: boolean;
}

/**
 * Records the parts of a step.
 *
 * @param gpu The device
 * @param part The plan and its sums
 * @param options Buffers of parameters and state by leaf, those of the batch, and whether there are other ranks
 * @returns The sums
 * @throws {OutOfMemoryError} When the device has no room
 */
export async function recordParts(
  gpu: Gpu,
  { plan, sums }: PlannedPart,
  { resolve, inputs, shared }: PartOptions,
): Promise<Accumulation> {
  const own = new Map<Path, Place>();
  const make = (label: string, { bytes, offsets }: Arena): GPUBuffer => {
    const buffer = createBuffer(gpu, { label, bytes });
    for (const [path, from] of offsets) own.set(path, { buffer, from });
    return buffer;
  };
  const free = (): void => own.forEach(({ buffer }) => destroyBuffer(buffer));
  try {
    const arenas = shared ? arenasOf(sums) : [...sums].map(([path, spec]) => alone(path, spec));
    const buffers = arenas.map((arena) => make("sums of gradients", arena));
    for (const path of [PART_WEIGHT, PART_DRAW, ALL_WEIGHT]) {
      make(path, alone(path, { shape: [], dtype: "f32" }));
    }
    const write = (path: Path, value: number): void =>
      writeValues(gpu, own.get(path)!.buffer, Float32Array.of(value));
    const recording = await record(gpu, {
      plan,
      label: "part of a step",
      resolve: (leaf) => own.get((leaf.attrs as { path: Path }).path)?.buffer ?? resolve(leaf),
      firstByte: (leaf) => own.get((leaf.attrs as { path: Path }).path)?.from ?? 0,
    });
    const ends = shared ? endsOf(plan, arenas) : [];
    let fresh = true, left: readonly BoundKernel[] = [], begun = 0, portion = 0;
    const submitUpTo = (end: number): void => {
      for (const to = Math.min(end, left.length); begun < to;) {
        const from = begun;
        begun = Math.min(begun + portion, to);
        submitPass(gpu, left.slice(from, begun));
      }
    };
    return {
      place: (path) => own.get(path),
      summed: arenas.map(({ bytes }, i) => ({
        buffer: buffers[i],
        bytes,
        complete: () => submitUpTo(ends[i]),
      })),
      run(step, parts, { of, from }) {
        // The step before has changed the weights.
        if (fresh) fresh = false;
        else recording.copyWeights();
        const encoder = gpu.device.createCommandEncoder();
        for (const buffer of buffers) encoder.clearBuffer(buffer);
        gpu.device.queue.submit([encoder.finish()]);
        gpu.counts.submits++;
        [left, begun] = [[], 0];
        for (const [i, { values, weight }] of parts.entries()) {
          inputs.write(values);
          write(PART_WEIGHT, weight);
          write(PART_DRAW, drawNumber((step - 1) * of + from + i + 1));
          // The exchange of the step before has left the device with nothing to do; a software adapter runs on this busy CPU.
          const idle = shared && i === 0 && !gpu.software;
          portion = idle ? PORTION : plan.launches.length;
          if (shared && i === parts.length - 1) left = recording.prepare(step);
          else recording.replay(step, { idle });
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

/** A tensor that has a buffer for itself. */
function alone(path: Path, spec: Spec): Arena {
  return { bytes: bytesOf(spec), offsets: new Map([[path, 0]]) };
}

/** For each buffer of sums the number of launches after which it and those before it are complete. */
function endsOf({ launches, buffers }: Plan, arenas: readonly Arena[]): number[] {
  const ends = new Map<Path, number>();
  launches.forEach(({ bindings }, at) => {
    for (const b of bindings) {
      const { source } = buffers[b];
      if (source.kind === "leaf") ends.set((wholeOf(source.node).attrs as { path: Path }).path, at + 1);
    }
  });
  let end = 0;
  return arenas.map(({ offsets }) =>
    end = offsets.keys().reduce((last, path) => Math.max(last, ends.get(path) ?? 0), end)
  );
}
