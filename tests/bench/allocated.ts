/**
 * Memory of a training: what its plan promises, and what the device was asked for.
 *
 * @module
 */

import { flatten, type Gpu, type TrainingState } from "@firn/train";
import { bytesOf } from "../../core/plan/storage.ts";
import type { Spec } from "../../core/spec.ts";

/** Bytes that a training plans. */
export interface Planned {
  /** Parameters, moments, readings until the next look. */
  readonly state: number;
  /** Intermediate values. */
  readonly values: number;
  /** Constants, scalars, and the batch. */
  readonly inputs: number;
}

/** Bytes of a training. Without the buffer through which the host reads: a device has one, whoever reads. */
export interface Memory {
  readonly planned: number;
  /** Allocated and not given back after the first step. */
  readonly held: number;
  /** Allocated at most until then. */
  readonly peak: number;
}

const total = (specs: Iterable<Spec>): number => [...specs].reduce((n, spec) => n + bytesOf(spec), 0);

/** What a training plans, from the state after a step and its batch. */
export function plannedOf(
  { params, leaves, cost }: Pick<TrainingState<object>, "params" | "leaves" | "cost">,
  batch: object,
): Planned {
  return {
    state: total(flatten(params).values()) + total(leaves.values()),
    values: cost!.memory,
    inputs: cost!.constants + total(flatten(batch).values()),
  };
}

/** Counts the allocations of one training among others on its device. */
export interface Allocations {
  /** Runs a part of it; nothing else may allocate meanwhile. */
  during<T>(part: () => Promise<T>): Promise<T>;
  /** Its memory so far. */
  memory(planned: Planned): Memory;
}

/**
 * Makes a counter. It begins `gpu.counts.peakBytes` anew with each part.
 *
 * @param gpu The device
 * @returns The counter, at nothing
 */
export function allocationsOn({ counts }: Pick<Gpu, "counts">): Allocations {
  let held = 0, peak = 0;
  return {
    async during(part) {
      const before = counts.bytes;
      counts.peakBytes = before;
      const result = await part();
      peak = Math.max(peak, held + counts.peakBytes - before);
      held += counts.bytes - before;
      return result;
    },
    memory: ({ state, values, inputs }) => ({ planned: state + values + inputs, held, peak }),
  };
}

/** How far what was allocated is from what was planned, in words. */
export function comparedWithPlan({ planned, held, peak }: Memory): string {
  if (held === planned && peak === planned) return "as planned";
  const words: string[] = [];
  if (held !== planned) {
    const [bytes, way] = held > planned ? [held - planned, "more"] : [planned - held, "less"];
    words.push(`steps hold ${bytes} bytes ${way} than planned`);
  }
  if (peak > held) {
    words.push(
      `${peak - held} bytes were given back before the second step: tuning's, or weights as they were given`,
    );
  }
  return words.join(", ");
}
