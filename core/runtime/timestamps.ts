/**
 * Measures the time of kernels, with timestamp queries.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Gpu } from "./device.ts";
import { type BoundKernel, dispatchAll, submit } from "./pipelines.ts";
import { mappingOf } from "./readback.ts";

/** Kernels between two timestamps. */
export interface TimedPass {
  readonly launches: readonly BoundKernel[];
  /** How often they are repeated. */
  readonly times: number;
}

/** Passes that one query set can time. WebGPU allows 4096 timestamps. */
export const MAX_PASSES = 2048;

/**
 * Times passes that run one after the other in one submission, so that the device does not rest in between.
 *
 * @param gpu The device; needs the feature `timestamp-query`
 * @param passes At most {@link MAX_PASSES}
 * @returns Milliseconds of one repetition of each
 * @throws {InputError} When there are more
 */
export async function timePasses(gpu: Gpu, passes: readonly TimedPass[]): Promise<number[]> {
  if (passes.length > MAX_PASSES) {
    throw new InputError(`Cannot time ${passes.length} passes as ${MAX_PASSES} is the limit`);
  }
  const { device } = gpu;
  const count = passes.length;
  const querySet = device.createQuerySet({ type: "timestamp", count: 2 * count });
  const resolved = device.createBuffer({ size: 16 * count, usage: 0x200 | 0x4 }); // QUERY_RESOLVE, COPY_SRC
  const staging = device.createBuffer({ size: 16 * count, usage: 0x1 | 0x8 }); // MAP_READ, COPY_DST
  submit(gpu, (encoder) => {
    passes.forEach((timed, i) => {
      const timestampWrites = {
        querySet,
        beginningOfPassWriteIndex: 2 * i,
        endOfPassWriteIndex: 2 * i + 1,
      };
      const pass = encoder.beginComputePass({ timestampWrites });
      dispatchRepeated(pass, timed);
      pass.end();
    });
    encoder.resolveQuerySet(querySet, 0, 2 * count, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16 * count);
  });
  let nanoseconds: BigUint64Array;
  try {
    await mappingOf(gpu, staging.mapAsync(1));
    nanoseconds = new BigUint64Array(staging.getMappedRange().slice(0));
  } finally {
    for (const resource of [querySet, resolved, staging]) resource.destroy();
  }
  gpu.check();
  return passes.map(({ times }, i) => Number(nanoseconds[2 * i + 1] - nanoseconds[2 * i]) / 1e6 / times);
}

/** Dispatches the kernels of a pass repeatedly. */
export function dispatchRepeated(pass: GPUComputePassEncoder, { launches, times }: TimedPass): void {
  for (let n = 0; n < times; n++) dispatchAll(pass, launches);
}
