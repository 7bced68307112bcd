/**
 * The device's clock around some launches.
 *
 * @module
 */

import type { KernelText } from "../tensor.ts";
import { type Gpu, pipelineFor } from "./device.ts";
import { mapped } from "./readback.ts";

/** A kernel with its buffers. */
export interface Launch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly grid: readonly [number, number, number];
}

/** Launches between two readings of the clock. */
export interface Pass {
  readonly launches: readonly Launch[];
  /** How often they are repeated. */
  readonly times: number;
}

/** Pairs of readings that WebGPU allows in one query set. */
export const MOST_PASSES = 2048;

/** Binds a kernel to its buffers, inputs first; compiles it when it is new. */
export function launch(gpu: Gpu, kernel: KernelText, buffers: readonly GPUBuffer[]): Launch {
  const pipeline = pipelineFor(gpu, kernel);
  gpu.counts.bindGroups++;
  const group = gpu.device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  return { pipeline, group, grid: kernel.grid };
}

/**
 * Runs passes one after the other in one submission, so that the device does not rest in between.
 *
 * @param gpu The device; needs the feature `timestamp-query`
 * @param passes At most {@link MOST_PASSES}
 * @returns Milliseconds of one repetition of each
 */
export async function clocked(gpu: Gpu, passes: readonly Pass[]): Promise<number[]> {
  if (passes.length > MOST_PASSES) {
    throw new RangeError(`Cannot clock ${passes.length} passes as ${MOST_PASSES} is the limit`);
  }
  const { device } = gpu;
  const count = passes.length;
  const queries = device.createQuerySet({ type: "timestamp", count: 2 * count });
  const resolved = device.createBuffer({ size: 16 * count, usage: 0x200 | 0x4 });
  const staging = device.createBuffer({ size: 16 * count, usage: 0x1 | 0x8 });
  const encoder = device.createCommandEncoder();
  passes.forEach(({ launches, times }, i) => {
    const pass = encoder.beginComputePass({
      timestampWrites: {
        querySet: queries,
        beginningOfPassWriteIndex: 2 * i,
        endOfPassWriteIndex: 2 * i + 1,
      },
    });
    repeatIn(pass, { launches, times });
    pass.end();
  });
  encoder.resolveQuerySet(queries, 0, 2 * count, resolved, 0);
  encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16 * count);
  device.queue.submit([encoder.finish()]);
  gpu.counts.submits++;
  let clock: BigUint64Array;
  try {
    await mapped(gpu, staging.mapAsync(1));
    clock = new BigUint64Array(staging.getMappedRange().slice(0));
  } finally {
    for (const resource of [queries, resolved, staging]) resource.destroy();
  }
  gpu.check();
  return passes.map(({ times }, i) => Number(clock[2 * i + 1] - clock[2 * i]) / 1e6 / times);
}

/** Records the launches of a pass. */
export function repeatIn(pass: GPUComputePassEncoder, { launches, times }: Pass): void {
  for (let n = 0; n < times; n++) {
    for (const { pipeline, group, grid } of launches) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...grid as [number, number, number]);
    }
  }
}
