/**
 * Reads tensors to the host. Tensors that must be computed are planned, recorded and run once.
 *
 * @module
 */

import { isBlocked } from "../../kernels/blocks.ts";
import { refuse } from "../arguments.ts";
import { unpackValues } from "../data/packed_values.ts";
import { plan } from "../plan/plan.ts";
import type { Plan, PlanOptions } from "../plan/types.ts";
import type { Gpu } from "../runtime/device.ts";
import { readBuffers } from "../runtime/readback.ts";
import { record } from "../runtime/record.ts";
import { checkUnconsumed, isResident, storageOf } from "../runtime/residents.ts";
import { type HostData, hostValues, isHost } from "../sources.ts";
import { elementBytes, sizeOf } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { isTensor } from "../tree.ts";

/**
 * Plans roots for a device.
 *
 * @param gpu The device
 * @param roots What to compute
 * @returns The plan
 */
export function planFor(gpu: Gpu, roots: readonly Tensor[], updates?: PlanOptions["updates"]): Plan {
  return plan(roots, { target: gpu.target, updates });
}

/**
 * Computes a tensor and copies its values to the host. Waits for all submitted work.
 *
 * @param gpu The device
 * @param tensor What to compute, or a tensor of a training state
 * @returns Its values, row-major; f32 where they are stored in fewer bytes
 * @throws {InputError} When it is no tensor
 * @throws {ConsumedError} When a training step has reused its buffer
 */
export async function read(gpu: Gpu, tensor: Tensor): Promise<HostData> {
  if (!isTensor(tensor)) refuse("read", "it takes a tensor", tensor);
  const [values] = await readAll(gpu, [tensor]);
  return values;
}

/**
 * Computes several tensors in one submission and copies their values to the host.
 *
 * @param gpu The device
 * @param tensors What to compute
 * @returns The values of each, row-major; f32 where they are stored in fewer bytes
 */
export async function readAll(gpu: Gpu, tensors: readonly Tensor[]): Promise<HostData[]> {
  const stored = tensors.filter((t) => !isHost(t));
  const computed = stored.filter((t) => !isResident(t));
  const recording = computed.length > 0
    ? await record(gpu, { plan: planFor(gpu, computed), label: "read" })
    : null;
  try {
    if (recording !== null) {
      checkUnconsumed(recording.plan);
      recording.replay(1);
    }
    const sources = stored.map((t) => ({
      buffer: isResident(t) ? storageOf(t).buffer : recording!.roots[computed.indexOf(t)],
      bytes: elementBytes(t),
    }));
    const values = await readBuffers(gpu, sources);
    return tensors.map((t) =>
      isHost(t) ? hostValues(t, "read").slice() : unpackValues(values[stored.indexOf(t)], t)
    );
  } finally {
    recording?.destroy();
  }
}

/** Bytes of a part. */
const PART = 2 ** 26;

/** Some values of a tensor, row-major. */
export interface ValueRange {
  /** The first. */
  readonly from: number;
  /** How many. */
  readonly count: number;
}

/**
 * Copies values of a tensor to the host in parts, so that a large one is never there as a whole.
 *
 * @param gpu The device
 * @param tensor What to read
 * @param range Which values; all when absent
 * @returns They in order, as of {@link readAll}; in one part where the tensor must be computed or has blocks
 */
export async function* readParts(
  gpu: Gpu,
  tensor: Tensor,
  { from, count }: ValueRange = { from: 0, count: sizeOf(tensor.shape) },
): AsyncGenerator<HostData, void, undefined> {
  const size = elementBytes(tensor) / sizeOf(tensor.shape), begin = from * size, end = begin + count * size;
  if (isHost(tensor) || !isResident(tensor) || isBlocked(tensor.dtype) || begin % 4 !== 0) {
    yield (await read(gpu, tensor)).subarray(from, from + count);
    return;
  }
  const { buffer } = storageOf(tensor);
  for (let at = begin; at < end; at += PART) {
    const [part] = await readBuffers(gpu, [{ buffer, from: at, bytes: Math.min(PART, end - at) }]);
    yield unpackValues(part, tensor);
  }
}
