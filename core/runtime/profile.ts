/**
 * Time per kernel, by timestamp queries.
 *
 * @module
 */

import { clocked, MOST_PASSES } from "./timestamps.ts";
import type { Gpu } from "./device.ts";
import type { Recording } from "./record.ts";

/** One launch and how long the device took for it. */
export interface KernelTime {
  /** Name of the kernel. */
  readonly name: string;
  /** Time between the device's clock before and after. */
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
 * @throws {TypeError} When it has none
 */
export function checkTimestamps(gpu: Gpu): void {
  if (gpu.features.has("timestamp-query")) return;
  throw new TypeError(`Cannot profile as "${gpu.name}" has no timestamp-query`);
}

/**
 * Replays a recording once with a pass for each launch and reads the device's clock around each. All is submitted
 * when this returns its promise.
 *
 * @param gpu The device; needs the feature `timestamp-query`
 * @param options The recording, the step whose scalars it uses, and the starts of its groups
 * @returns One row a launch, in order
 * @throws {TypeError} When the device has no timestamps
 */
export async function profile(
  gpu: Gpu,
  options: { readonly recording: Recording; readonly step: number; readonly starts?: readonly number[] },
): Promise<KernelTime[]> {
  checkTimestamps(gpu);
  const { recording, step, starts } = options;
  const passes = recording.prepare(step, starts).map((launch) => ({ launches: [launch], times: 1 }));
  const parts: Promise<number[]>[] = [];
  for (let from = 0; from < passes.length; from += MOST_PASSES) {
    parts.push(clocked(gpu, passes.slice(from, from + MOST_PASSES)));
  }
  const times = (await Promise.all(parts)).flat();
  return recording.plan.launches.map(({ kernel: { name, flops }, bytes }, i) => {
    return { name, flops, milliseconds: times[i], bytes };
  });
}
