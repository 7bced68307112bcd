/**
 * Reads tensors to the host. Tensors that must be computed are planned, recorded and run once.
 *
 * @module
 */

import { refuse } from "../arguments.ts";
import { fromBf16 } from "../data/floats.ts";
import { plan } from "../plan/plan.ts";
import type { Plan, PlanOptions } from "../plan/types.ts";
import type { Gpu } from "../runtime/device.ts";
import { readBuffers } from "../runtime/readback.ts";
import { record } from "../runtime/record.ts";
import { checkUnconsumed, isResident, storageOf } from "../runtime/residents.ts";
import { type HostData, hostValues, isHost } from "../sources.ts";
import { type DType, ELEMENT_BYTES, sizeOf } from "../spec.ts";
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
 * @returns Its values, row-major; bf16 is widened to f32
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
 * @returns The values of each, row-major; bf16 is widened to f32
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
      bytes: ELEMENT_BYTES[t.dtype] * sizeOf(t.shape),
    }));
    const values = await readBuffers(gpu, sources);
    return tensors.map((t) =>
      isHost(t) ? hostValues(t, "read").slice() : view(values[stored.indexOf(t)], t.dtype)
    );
  } finally {
    recording?.destroy();
  }
}

/** Bytes as values of a dtype; bf16 is widened to f32. */
function view(bytes: ArrayBuffer, dtype: DType): HostData {
  switch (dtype) {
    case "f32":
      return new Float32Array(bytes);
    case "i32":
      return new Int32Array(bytes);
    case "u32":
      return new Uint32Array(bytes);
    case "bf16":
      return fromBf16(new Uint16Array(bytes));
  }
}
