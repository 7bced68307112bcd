/**
 * Time per kernel, by timestamp queries.
 *
 * @module
 */

import { clocked, MOST_PASSES } from "./clock.ts";
import type { Gpu } from "./device.ts";
import type { Recording } from "./run.ts";

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
 * Replays a recording once with a pass for each launch and reads the device's clock around each.
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
  if (!gpu.features.has("timestamp-query")) {
    throw new TypeError(`Cannot profile as "${gpu.name}" has no timestamp-query`);
  }
  const { recording, step, starts } = options;
  const launches = recording.prepare(step, starts);
  const rows: KernelTime[] = [];
  for (let from = 0; from < launches.length; from += MOST_PASSES) {
    const part = launches.slice(from, from + MOST_PASSES);
    const times = await clocked(gpu, part.map((launch) => ({ launches: [launch], times: 1 })));
    times.forEach((milliseconds, i) => {
      const { kernel, bytes } = recording.plan.launches[from + i];
      rows.push({ name: kernel.name, flops: kernel.flops, milliseconds, bytes });
    });
  }
  return rows;
}
