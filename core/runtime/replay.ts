/**
 * Replays recorded launches.
 *
 * @module
 */

import type { Plan } from "../plan/types.ts";
import type { Gpu } from "./device.ts";
import { type BoundKernel, dispatchAll, submit } from "./pipelines.ts";

/** Options of a replay. */
export interface ReplayOptions {
  /** For each group of the plan, the step at which its age is 0; 0 where absent. */
  readonly starts?: readonly number[];
  /** Copies between the prefix and the rest; none when absent. */
  readonly copies?: PrefixCopies;
  /** Whether the device is idle. It then starts the first launches while the others are encoded. */
  readonly idle?: boolean;
}

/** Copies between the prefix of a plan and the rest. */
export interface PrefixCopies {
  /** Whether the launches of the prefix are left out. */
  readonly skip: boolean;
  /** Encodes copies from or to the values that the plan keeps from its prefix. */
  encode(encoder: GPUCommandEncoder): void;
}

/** Launches of one submission while the device is idle. It need not wait until all are encoded. */
export const PORTION = 32;

/** Encodes launches into one compute pass. */
function encodePass(encoder: GPUCommandEncoder, launches: readonly BoundKernel[]): void {
  const pass = encoder.beginComputePass();
  dispatchAll(pass, launches);
  pass.end();
}

/** Submits launches as one compute pass. */
export function submitPass(gpu: Gpu, launches: readonly BoundKernel[]): void {
  submit(gpu, (encoder) => encodePass(encoder, launches));
}

/**
 * Submits the launches of a step: in one pass; in portions when the device is idle; or in two passes with the copies of
 * a prefix between them.
 *
 * @param gpu The device
 * @param recorded The plan and its launches
 * @param options Copies of the prefix, and whether the device is idle
 */
export function replay(
  gpu: Gpu,
  { plan: { prefix }, launches }: { readonly plan: Plan; readonly launches: readonly BoundKernel[] },
  { copies, idle = false }: ReplayOptions,
): void {
  if (typeof prefix !== "object" || copies === undefined) {
    const portion = idle ? PORTION : launches.length;
    for (let from = 0; from < launches.length; from += portion) {
      submitPass(gpu, launches.slice(from, from + portion));
    }
    return;
  }
  const { head, launches: count } = prefix;
  submit(gpu, (encoder) => {
    if (!copies.skip) encodePass(encoder, launches.slice(0, head + count));
    copies.encode(encoder);
    encodePass(encoder, copies.skip ? launches.toSpliced(head, count) : launches.slice(head + count));
  });
}

/**
 * Makes a function that uploads the scalars of a step.
 *
 * @param gpu The device
 * @param options The plan, and the buffer of its scalars; null when it has none
 * @returns A function of the step, and of the step at which the age of each group is 0
 */
export function scalarUpload(
  gpu: Gpu,
  { plan, buffer }: { readonly plan: Plan; readonly buffer: GPUBuffer | null },
): (step: number, starts?: readonly number[]) => void {
  const { scalars } = plan, values = new Float32Array(Math.max(4, scalars.length));
  return (step, starts = []) => {
    if (buffer === null) return;
    scalars.forEach(({ value, group }, i) => values[i] = value(step, step - (starts[group] ?? 0)));
    gpu.device.queue.writeBuffer(buffer, 0, values, 0, scalars.length);
  };
}
