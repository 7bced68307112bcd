/**
 * Replays recorded launches.
 *
 * @module
 */

import type { Ages, Plan } from "../plan/types.ts";
import type { Gpu } from "./device.ts";
import type { PlanBuffers } from "./plan_buffers.ts";
import { type BoundKernel, dispatchAll, submit } from "./pipelines.ts";

/** Options of a replay. */
export interface ReplayOptions {
  /** What the ages of parameters follow from; each is the step when absent. */
  readonly ages?: Ages;
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
 * Submits the launches of a step: in one pass, in two with the copies of a prefix between them, and in portions when the
 * device is idle.
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
  const portion = idle ? PORTION : launches.length;
  if (typeof prefix !== "object" || copies === undefined) return submitPortions(gpu, launches, portion);
  const { head, launches: count } = prefix, { skip } = copies;
  const rest = skip ? launches.toSpliced(head, count) : launches.slice(head + count);
  if (idle && !skip) submitPortions(gpu, launches.slice(0, head + count), portion);
  submit(gpu, (encoder) => {
    if (!idle && !skip) encodePass(encoder, launches.slice(0, head + count));
    copies.encode(encoder);
    encodePass(encoder, rest.slice(0, portion));
  });
  submitPortions(gpu, rest.slice(portion), portion);
}

/** Submits launches, so many in a pass. */
function submitPortions(gpu: Gpu, launches: readonly BoundKernel[], portion: number): void {
  for (let from = 0; from < launches.length; from += portion) {
    submitPass(gpu, launches.slice(from, from + portion));
  }
}

/**
 * Makes a function that uploads the scalars of a step.
 *
 * @param gpu The device
 * @param options The plan, and the buffers of its scalars
 * @returns A function of the step, and of what ages follow from
 */
export function scalarUpload(
  gpu: Gpu,
  { plan: { scalars }, memory: { scalars: buffer, tables } }: {
    readonly plan: Plan;
    readonly memory: Pick<PlanBuffers, "scalars" | "tables">;
  },
): (step: number, ages?: Ages) => void {
  const values = new Float32Array(Math.max(4, scalars.length));
  const inTables = tables.map(({ rows, columns }) => new Float32Array(rows.length * columns));
  const { queue } = gpu.device;
  return (step, { starts, skipped, judged, until } = { starts: [], skipped: 0, judged: 0, until: step }) => {
    const updates = step - skipped, startOf = (group: number): number => starts[group] ?? 0;
    if (buffer !== null) {
      scalars.forEach(({ value, group }, i) => values[i] = value(step, updates - startOf(group)));
      queue.writeBuffer(buffer, 0, values, 0, scalars.length);
    }
    tables.forEach(({ rows, columns, buffer }, t) => {
      // Each step since the last look may have been left out, and no other.
      for (let more = 0; more < Math.min(columns, Math.max(1, step - until)); more++) {
        const column = (judged + more) % columns;
        rows.forEach(({ value, group }, i) =>
          inTables[t][i * columns + column] = value(step, updates - more - startOf(group))
        );
      }
      queue.writeBuffer(buffer, 0, inTables[t]);
    });
  };
}
