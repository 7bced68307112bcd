/**
 * Time per kernel, by timestamp queries.
 *
 * @module
 */

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
 * @param options The recording and the step whose scalars it uses
 * @returns One row a launch, in order
 * @throws {TypeError} When the device has no timestamps
 */
export async function profile(
  gpu: Gpu,
  options: { readonly recording: Recording; readonly step: number },
): Promise<KernelTime[]> {
  if (!gpu.features.has("timestamp-query")) {
    throw new TypeError(`Cannot profile as "${gpu.name}" has no timestamp-query`);
  }
  const { device } = gpu;
  const { recording, step } = options;
  const count = recording.plan.launches.length;
  const most = 2048;
  const rows: KernelTime[] = [];
  for (let from = 0; from < count; from += most) {
    const part = Math.min(most, count - from);
    const queries = device.createQuerySet({ type: "timestamp", count: 2 * part });
    const resolved = device.createBuffer({ size: 16 * part, usage: 0x200 | 0x4 });
    const staging = device.createBuffer({ size: 16 * part, usage: 0x1 | 0x8 });
    const encoder = device.createCommandEncoder();
    recording.encode(encoder, { step, queries, from, count: part });
    encoder.resolveQuerySet(queries, 0, 2 * part, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16 * part);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(1);
    const times = new BigUint64Array(staging.getMappedRange().slice(0));
    for (let i = 0; i < part; i++) {
      const { kernel, bytes } = recording.plan.launches[from + i];
      const milliseconds = Number(times[2 * i + 1] - times[2 * i]) / 1e6;
      rows.push({ name: kernel.name, flops: kernel.flops, milliseconds, bytes });
    }
    for (const resource of [queries, resolved, staging]) resource.destroy();
  }
  gpu.check();
  return rows;
}
