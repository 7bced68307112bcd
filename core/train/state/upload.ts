/**
 * Puts tensors of a training state on the device.
 *
 * @module
 */

import { isBlocked } from "../../../kernels/blocks.ts";
import { packHalves } from "../../data/packed_values.ts";
import { InputError } from "../../errors.ts";
import { createBuffer, SMALLER_MODEL, writeValues } from "../../runtime/buffers.ts";
import type { Gpu } from "../../runtime/device.ts";
import { bytesOf } from "../../plan/storage.ts";
import { checkUnconsumed, isResident, resident, storageOf } from "../../runtime/residents.ts";
import { planFor } from "../../infer/read.ts";
import { record } from "../../runtime/record.ts";
import { hostValues, isHost } from "../../sources.ts";
import type { Spec } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import type { Path } from "../../tree.ts";
import type { HostTensor } from "../types.ts";

/** Name of a tensor, and the step that made it. */
export interface LeafName {
  readonly path: Path;
  readonly step: number;
  /** Whether no step ever writes into it, so that training states may share it; false when absent. */
  readonly constant?: boolean;
}

/** Makes a tensor of zeros in a new buffer. */
export function zeros(gpu: Gpu, options: LeafName & { readonly spec: Spec }): Tensor {
  const { path, spec, step, constant } = options;
  const buffer = createBuffer(gpu, { label: path, bytes: bytesOf(spec), mend: SMALLER_MODEL });
  return resident(spec, { buffer, label: path, producedAt: step, constant });
}

/**
 * Uploads values to a new buffer.
 *
 * @throws {InputError} When they are numbers that must be words of blocks
 */
export function uploadLeaf(gpu: Gpu, options: LeafName & { readonly value: HostTensor }): Tensor {
  const { path, value: { dtype, data } } = options;
  if (isBlocked(dtype) && data instanceof Float32Array) {
    throw new InputError(
      `Cannot upload "${path}" as values of ${dtype} must be words: they are f32; pack them by toBlocks()`,
    );
  }
  const made = zeros(gpu, { ...options, spec: options.value });
  writeValues(gpu, storageOf(made).buffer, packHalves(data, dtype));
  return made;
}

/** A copy of any tensor on the device, as a tensor of step 0; a graph is computed. */
export async function copyToDevice(
  gpu: Gpu,
  options: { readonly path: Path; readonly source: Tensor } & Pick<LeafName, "constant">,
): Promise<Tensor> {
  const { path, source, constant } = options, { shape, dtype } = source;
  if (isHost(source)) {
    return uploadLeaf(gpu, {
      path,
      value: { shape, dtype, data: hostValues(source, path) },
      step: 0,
      constant,
    });
  }
  const made = zeros(gpu, { path, spec: source, step: 0, constant });
  const to = storageOf(made).buffer;
  const recording = isResident(source)
    ? null
    : await record(gpu, { plan: planFor(gpu, [source]), label: path });
  try {
    if (recording !== null) {
      checkUnconsumed(recording.plan);
      recording.replay(1);
    }
    const from = recording === null ? storageOf(source).buffer : recording.roots[0];
    const encoder = gpu.device.createCommandEncoder();
    encoder.copyBufferToBuffer(from, 0, to, 0, bytesOf(source));
    gpu.device.queue.submit([encoder.finish()]);
    return made;
  } finally {
    recording?.destroy();
  }
}
