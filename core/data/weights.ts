/**
 * The weights of a checkpoint, whatever file holds them.
 *
 * @module
 */

import type { BlockDType } from "./gguf/types.ts";
import type { RowRange } from "./row_range.ts";
import type { StoredDType, StoredSpec } from "./safetensors_header.ts";

/** Type, shape and byte range of a tensor. */
export interface WeightSpec extends Omit<StoredSpec, "dtype"> {
  /** Element type, or the type of blocks. */
  readonly dtype: StoredDType | BlockDType;
}

/** Tensors by name. A tensor is read when it is asked for. */
export interface Weights extends AsyncDisposable {
  /** Path of the file, or folder of the checkpoint. */
  readonly path: string;
  /** Names of the tensors. */
  readonly names: readonly string[];
  /** Type, shape and byte range of every tensor. */
  readonly specs: ReadonlyMap<string, WeightSpec>;
  /** The bytes of a tensor, or of some rows, as stored, in a buffer of their own. */
  read(name: string, rows?: RowRange): Promise<Uint8Array<ArrayBuffer>>;
  /** The values of a tensor, or of some rows. */
  readF32(name: string, rows?: RowRange): Promise<Float32Array<ArrayBuffer>>;
}
