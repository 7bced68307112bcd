/**
 * State besides the parameters: which leaves a frozen set needs, and how they change with it.
 *
 * @module
 */

import type { Gpu } from "../../runtime/device.ts";
import { storageOf } from "../../runtime/residents.ts";
import { sameShape, sizeOf, type Spec, type Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import { place, zeros } from "./upload.ts";
import { SCALING } from "../step/loss_scaling.ts";

/**
 * The leaves of a new frozen set: those that exist are kept, new ones start at zero, dropped ones are freed.
 *
 * @param gpu The device
 * @param options Leaves so far, the specs of those wanted, the step after which they hold
 * @returns The leaves, as wanted
 */
export function adjustLeaves(
  gpu: Gpu,
  options: { readonly leaves: Leaves; readonly wanted: ReadonlyMap<Path, Spec>; readonly step: number },
): Map<Path, Tensor> {
  const { leaves, wanted, step } = options;
  for (const [path, tensor] of leaves) if (!wanted.has(path)) storageOf(tensor).buffer.destroy();
  return new Map(
    [...wanted].map(([path, spec]) => [path, leaves.get(path) ?? newLeaf(gpu, { path, spec, step })]),
  );
}

function newLeaf(
  gpu: Gpu,
  options: { readonly path: Path; readonly spec: Spec; readonly step: number },
): Tensor {
  const { path, spec, step } = options, first = firstOf(path);
  if (first === 0) return zeros(gpu, options);
  return place(gpu, {
    path,
    value: { ...spec, data: new Float32Array(sizeOf(spec.shape)).fill(first) },
    step,
  });
}

/** What a leaf starts with: a gradient of a step that never was is absent, never zero. */
function firstOf(path: Path): number {
  return path.startsWith("previous.") ? NaN : SCALING.get(path) ?? 0;
}

/** Whether a leaf holds readings, or what they need. */
function isReading(path: Path): boolean {
  return path === "ring" || path.startsWith("previous.");
}

/**
 * The leaves that do not depend on what is measured.
 *
 * @param leaves All leaves
 * @returns Those among them
 */
export function withoutReadings(leaves: ReadonlyMap<Path, Spec>): Map<Path, Spec> {
  return new Map([...leaves].filter(([path]) => !isReading(path)));
}

/**
 * Refuses saved leaves that are not those of a training.
 *
 * @param wanted Specs of the training's leaves
 * @param saved The saved ones
 * @throws {TypeError} When one is missing, superfluous or of another shape
 */
export function checkLeaves(wanted: ReadonlyMap<Path, Spec>, saved: ReadonlyMap<Path, Spec>): void {
  for (const path of new Set([...wanted.keys(), ...saved.keys()])) {
    const needed = wanted.get(path)?.shape, seen = saved.get(path)?.shape;
    if (needed !== undefined && seen !== undefined && sameShape(needed, seen)) continue;
    const show = (shape?: readonly number[]): string => shape ? `[${shape.join(", ")}]` : "nothing";
    throw new TypeError(
      `Cannot resume "${path}" as the saved state must have the shape that this training needs: ` +
        `it has ${show(seen)}, not ${show(needed)}; resume with the ${
          isReading(path) ? "policy and the version of Firn" : "model"
        } of the saved run`,
    );
  }
}
