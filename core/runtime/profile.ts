/**
 * Time per kernel, by timestamp queries.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Ages } from "../plan/types.ts";
import type { Gpu } from "./device.ts";
import type { Recording } from "./record.ts";
import { MAX_PASSES, timePasses } from "./timestamps.ts";

/** The time of one launch. */
export interface KernelTime {
  /** Name of the kernel. */
  readonly name: string;
  /** Time between the timestamps before and after it. */
  readonly milliseconds: number;
  /** Floating-point operations. */
  readonly flops: number;
  /** Bytes of the buffers that it binds. */
  readonly bytes: number;
}

/**
 * Refuses a device without timestamps.
 *
 * @param gpu The device
 * @throws {InputError} When it has none
 */
export function checkTimestamps(gpu: Gpu): void {
  if (gpu.features.has("timestamp-query")) return;
  throw new InputError(`Cannot profile as "${gpu.name}" has no timestamp-query`);
}

/**
 * Replays a recording once with a pass for each launch, and times each pass. All work is submitted before the promise is
 * returned.
 *
 * @param gpu The device; needs the feature `timestamp-query`
 * @param options The recording, the step whose scalars it uses, and what ages follow from
 * @returns One row a launch, in order
 * @throws {InputError} When the device has no timestamps
 */
export async function profile(
  gpu: Gpu,
  options: { readonly recording: Recording; readonly step: number; readonly ages?: Ages },
): Promise<KernelTime[]> {
  checkTimestamps(gpu);
  const { recording, step, ages } = options;
  const passes = recording.prepare(step, ages).map((launch) => ({ launches: [launch], times: 1 }));
  const parts: Promise<number[]>[] = [];
  for (let from = 0; from < passes.length; from += MAX_PASSES) {
    parts.push(timePasses(gpu, passes.slice(from, from + MAX_PASSES)));
  }
  const times = (await Promise.all(parts)).flat();
  return recording.plan.launches.map(({ kernel: { name, flops }, bytes }, i) => {
    return { name, flops, milliseconds: times[i], bytes };
  });
}
