/**
 * Keeps the parameters of the best step so far.
 *
 * Only parameters that change have a copy: one that is frozen since the best step still has its best value.
 *
 * @module
 */

import { destroyBuffer } from "../../runtime/buffers.ts";
import type { Gpu } from "../../runtime/device.ts";
import { bytesOf } from "../../plan/storage.ts";
import { storageOf } from "../../runtime/residents.ts";
import type { Spec } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import { BEST } from "./specs.ts";
import { zeros } from "./upload.ts";

/** The state after a step. */
export interface Weights {
  /** Leaves of the state, with the copies. */
  readonly leaves: Leaves;
  /** Parameters after the step. */
  readonly params: Leaves;
}

/**
 * Updates the copies after a step.
 *
 * @param gpu The device
 * @param options State; the step and the best step; paths that the next step changes: none after the last step
 * @returns The leaves, with the copies of the best step
 */
export function keepBestWeights(
  gpu: Gpu,
  options: Weights & {
    readonly step: number;
    readonly best: number | null;
    readonly moving: readonly Path[];
  },
): Map<Path, Tensor> {
  const { leaves, params, step, best, moving } = options;
  const kept = best === null || best === step ? [] : copiesIn(leaves);
  const wanted = best === null ? [] : [...new Set([...kept, ...moving])];
  const next = new Map(leaves), pairs: [Tensor, Tensor][] = [];
  for (const path of copiesIn(leaves)) if (!wanted.includes(path)) drop(next, path);
  for (const path of wanted) {
    if (kept.includes(path)) continue;
    // Where the best step is an earlier one, the parameter was frozen since then.
    const source = params.get(path)!, name = BEST + path;
    const copy = next.get(name) ?? zeros(gpu, { path: name, spec: source, step });
    next.set(name, copy);
    pairs.push([source, copy]);
  }
  copy(gpu, pairs);
  return next;
}

/**
 * Copies the best weights back into the parameters, and frees the copies.
 *
 * @param gpu The device
 * @param options State after the last step
 * @returns The leaves without copies
 */
export function restoreBestWeights(gpu: Gpu, { leaves, params }: Weights): Map<Path, Tensor> {
  const next = new Map(leaves), paths = copiesIn(leaves);
  copy(gpu, paths.map((path) => [leaves.get(BEST + path)!, params.get(path)!]));
  for (const path of paths) drop(next, path);
  return next;
}

/**
 * Specs of the copies that a state has.
 *
 * @param leaves Its leaves
 * @param params Its parameters
 * @returns Specs by name, of copies of parameters
 */
export function bestWeightSpecs(
  leaves: ReadonlyMap<Path, unknown>,
  params: ReadonlyMap<Path, Spec>,
): Map<Path, Spec> {
  return new Map(
    copiesIn(leaves).filter((path) => params.has(path)).map((path) => [BEST + path, params.get(path)!]),
  );
}

/** Paths of the parameters that have a copy. */
function copiesIn(leaves: ReadonlyMap<Path, unknown>): Path[] {
  return [...leaves.keys()].flatMap((name) => name.startsWith(BEST) ? [name.slice(BEST.length)] : []);
}

function drop(leaves: Map<Path, Tensor>, path: Path): void {
  destroyBuffer(storageOf(leaves.get(BEST + path)!).buffer);
  leaves.delete(BEST + path);
}

function copy(gpu: Gpu, pairs: readonly (readonly [from: Tensor, to: Tensor])[]): void {
  if (pairs.length === 0) return;
  const encoder = gpu.device.createCommandEncoder();
  for (const [from, to] of pairs) {
    encoder.copyBufferToBuffer(storageOf(from).buffer, 0, storageOf(to).buffer, 0, bytesOf(from));
  }
  gpu.device.queue.submit([encoder.finish()]);
  gpu.counts.submits++;
}
