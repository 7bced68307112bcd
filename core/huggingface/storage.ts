/**
 * How the device stores the parameters of a model that is loaded.
 *
 * @module
 */

import { shown } from "../arguments.ts";
import { InputError } from "../errors.ts";
import type { WeightSpec } from "../data/weights.ts";
import type { ParamSpec } from "../nn/params.ts";
import type { DType } from "../spec.ts";
import type { Path } from "../tree.ts";

/**
 * How the device stores parameters. Vectors, such as biases and the gains of norms, are f32 in all of them; routers of experts
 * are in `int8` and `nf4`.
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
  /** What it is for, where its declaration tells. */
  readonly use?: ParamSpec["use"];
}

/** The type that the device stores a parameter in. */
export function storedIn(storage: Storage, { path, shape, dtype, use }: StoredParam): DType {
  // Layers are numbered. A stack of matrices in one is experts.
  const inLayer = /\.\d+\./.test(path), isMatrix = shape.length === 2 || shape.length === 3 && inLayer;
  if (!isMatrix || storage === "f32") return "f32";
  // A router is small, and a wrong choice of an expert is a large error.
  if (storage !== "file" && use === "router") return "f32";
  if (storage === "int8") return "int8";
  if (storage === "nf4") return inLayer ? "nf4" : "bf16";
  return dtype === "BF16" ? "bf16" : dtype === "F16" ? "f16" : "f32";
}
