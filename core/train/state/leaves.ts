/**
 * Changes the tensors of a state with the frozen set, and checks saved ones.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import { bytesOf } from "../../plan/storage.ts";
import { destroyBuffer } from "../../runtime/buffers.ts";
import type { Gpu } from "../../runtime/device.ts";
import { submit } from "../../runtime/pipelines.ts";
import { storageOf } from "../../runtime/residents.ts";
import { sameShape, sizeOf, type Spec } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import { isReading, type StateSpec } from "./specs.ts";
import { uploadLeaf, zeros } from "./upload.ts";

/**
 * Makes the leaves of a new frozen set: keeps those that exist, makes missing ones, frees those that are not wanted.
 *
 * @param gpu The device
 * @param options Leaves so far, the specs of those wanted, parameters that some are copies of, the step after which they hold
 * @returns The leaves, as wanted
 */
export function adjustLeaves(
  gpu: Gpu,
  options: {
    readonly leaves: Leaves;
    readonly wanted: ReadonlyMap<Path, StateSpec>;
    readonly params: Leaves;
    readonly step: number;
  },
): Map<Path, Tensor> {
  const { leaves, wanted, params, step } = options;
  for (const [path, tensor] of leaves) if (!wanted.has(path)) destroyBuffer(storageOf(tensor).buffer);
  return new Map(
    [...wanted].map(([path, spec]) => [path, leaves.get(path) ?? newLeaf(gpu, { path, spec, params, step })]),
  );
}

function newLeaf(
  gpu: Gpu,
  options: {
    readonly path: Path;
    readonly spec: StateSpec;
    readonly params: Leaves;
    readonly step: number;
  },
): Tensor {
  const { path, spec: { initial = 0, copyOf, shape, dtype }, params, step } = options;
  if (initial === 0) {
    const made = zeros(gpu, options), source = copyOf === undefined ? undefined : params.get(copyOf)!;
    if (source !== undefined) {
      const [from, to] = [source, made].map((t) => storageOf(t).buffer);
      submit(gpu, (encoder) => encoder.copyBufferToBuffer(from, 0, to, 0, bytesOf(source)));
    }
    return made;
  }
  const data = new Float32Array(sizeOf(shape)).fill(initial);
  return uploadLeaf(gpu, { path, value: { shape, dtype, data }, step });
}

/**
 * Refuses saved leaves that are not those of a training.
 *
 * @param wanted Specs of the training's leaves
 * @param saved The saved ones
 * @throws {InputError} When one is missing, superfluous or of another shape
 */
export function checkLeaves(wanted: ReadonlyMap<Path, Spec>, saved: ReadonlyMap<Path, Spec>): void {
  for (const path of new Set([...wanted.keys(), ...saved.keys()])) {
    const needed = wanted.get(path), seen = saved.get(path);
    const same = needed !== undefined && seen !== undefined && needed.dtype === seen.dtype;
    if (same && sameShape(needed.shape, seen.shape)) continue;
    const show = (spec?: Spec): string =>
      spec ? `${spec.dtype === "f32" ? "" : spec.dtype}[${spec.shape.join(", ")}]` : "nothing";
    throw new InputError(
      `Cannot resume "${path}" as the saved state must have the shape that this training needs: ` +
        `it has ${show(seen)}, not ${show(needed)}; resume with the ${
          isReading(path) ? "policy and the version of Firn" : "model"
        } of the saved run`,
    );
  }
}
