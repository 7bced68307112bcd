/**
 * Names in checkpoints, and of them.
 *
 * @module
 */

/** Prefix of parameters in a file. */
export const PARAMS = "params.";
/** Prefix of other tensors of the state. */
export const LEAVES = "leaves.";

/** Path of an older checkpoint: `run.safetensors` was kept as `run.1.safetensors`, and before that as `run.2.safetensors`. */
export function olderPath(path: string, age: number): string {
  return age === 0 ? path : withMark(path, `.${age}`);
}

/** Path of what a rank has of its own: `run.rank-1.safetensors`; rank 0 has the checkpoint itself. */
export function rankPath(path: string, rank: number): string {
  return rank === 0 ? path : withMark(path, `.rank-${rank}`);
}

/** A path with a mark before its extension. */
export function withMark(path: string, mark: string): string {
  return path.replace(/(\.[^./\\]*)?$/, (extension) => `${mark}${extension}`);
}
