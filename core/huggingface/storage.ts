/**
 * How the device stores the parameters of a model that is loaded.
 *
 * @module
 */

import { shown } from "../arguments.ts";
import { InputError } from "../errors.ts";
import type { WeightSpec } from "../data/weights.ts";
import type { DType } from "../spec.ts";
import type { Path } from "../tree.ts";

/**
 * How the device stores parameters. Vectors, such as biases and the gains of norms, are f32 in all of them.
 *
 * - `f32`: all can be trained.
 * - `file`: matrices that the file stores as bfloat16 or float16 stay so.
 * - `int8`: matrices have 8 bits and a scale for 32 of them, as in Q8_0 of GGUF.
 * - `nf4`: matrices of layers have 4 bits and, for 64 of them, a scale that is quantized again, as in QLoRA; other matrices,
 *   such as the table of embeddings and the head, are bfloat16.
 */
export type Storage = "f32" | "file" | "int8" | "nf4";

const STORAGES: readonly Storage[] = ["f32", "file", "int8", "nf4"];

/**
 * Refuses a storage that is none.
 *
 * @param storage What was given
 * @param action What is refused: `load "folder"`
 * @throws {InputError} When it is none
 */
export function checkStorage(storage: unknown, action: string): void {
  if (STORAGES.some((known) => known === storage)) return;
  const rule = `"storage" must be one of ${STORAGES.join(", ")}`;
  throw new InputError(`Cannot ${action} as ${rule}: got ${shown(storage)}`);
}

/** A parameter that is to be stored. */
interface StoredParam {
  readonly path: Path;
  readonly shape: readonly number[];
  /** Its type in the file. */
  readonly dtype: WeightSpec["dtype"];
}

/** The type that the device stores a parameter in. */
export function storedIn(storage: Storage, { path, shape, dtype }: StoredParam): DType {
  if (shape.length !== 2 || storage === "f32") return "f32";
  if (storage === "int8") return "int8";
  // Layers are numbered.
  if (storage === "nf4") return /\.\d+\./.test(path) ? "nf4" : "bf16";
  return dtype === "BF16" ? "bf16" : dtype === "F16" ? "f16" : "f32";
}
