/**
 * Loads models from Hugging Face folders.
 *
 * @module
 */

import { scoreBytes } from "./new_model.ts";
import { openCheckpoint } from "./shards.ts";
import type { SafetensorsFile } from "../data/safetensors.ts";
import { DataError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { readJson } from "../host/json_file.ts";
import { checkAllocations } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { upload } from "../runtime/upload.ts";
import type { TokenInput } from "../models/family.ts";
import { families as known } from "../models/mod.ts";
import {
  declaredParams,
  describeModel,
  type Families,
  type Model,
  type ModelDescription,
  modelParams,
} from "../models/model.ts";
import { sameShape } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { type Path, unflatten } from "../tree.ts";

/** Options of {@link loadModel}. */
export interface LoadOptions extends FileSystemOptions {
  /**
   * How the device stores the parameters. `f32`, the default: all can be trained. `file`: matrices that the file stores as
   * bfloat16 stay bfloat16, in half the memory; they cannot be trained, but LoRA pairs beside them can.
   */
  readonly storage?: "f32" | "file";
  /** Families by `model_type`; those of this package when absent. */
  readonly families?: Families;
}

/**
 * Loads a model from a Hugging Face folder: `config.json` and `model.safetensors` (or its shards).
 *
 * Tensors are read one by one and widened to f32. A tied head is the parameter of the embedding. With storage `file`,
 * kernels widen matrices of bfloat16 as they read them; the same kernels give the same bits.
 *
 * @param gpu The device that will hold the parameters
 * @param folder The folder
 * @param options Storage on the device, families, file system
 * @returns The model; any parameter type can be asked for, `loadModel<LlamaParams>(...)`
 * @throws {InputError} When the family is unknown or a value of `config.json` does not fit
 * @throws {DataError} When a tensor is missing, unexpected or of another shape
 * @throws {OutOfMemoryError} When the device has no room
 *
 * @example
 * ```ts
 * import { assert, assertEquals } from "@std/assert";
 * import { logits, openGpu, read, tensor } from "@firn/train";
 * import { loadModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const folder = "examples/models/sotu"; // bfloat16
 * const wide = await loadModel(gpu, folder), before = gpu.counts.bytes;
 * const packed = await loadModel(gpu, folder, { storage: "file" });
 * assert(gpu.counts.bytes - before < 0.51 * before); // norms are f32 in both
 * const ids = tensor(new Int32Array([1, 2, 3, 4]), [1, 4]);
 * assertEquals(await read(gpu, logits(packed, ids)), await read(gpu, logits(wide, ids)));
 * ```
 */
export async function loadModel<P extends object = object, I extends object = TokenInput>(
  gpu: Gpu,
  folder: string,
  options: LoadOptions = {},
): Promise<Model<P, I>> {
  const { storage = "f32", families = known } = options;
  const file = `${folder}/config.json`;
  const model = describeModel<I>(await readJson(file, options), { families, file });
  await using checkpoint = await openCheckpoint(folder, options);
  checkCheckpoint(checkpoint, { model, file });
  const params = new Map<Path, Tensor>();
  for (const [path, { key, shape }] of modelParams(model)) {
    const packed = storage === "file" && shape.length === 2 && checkpoint.specs.get(key)!.dtype === "BF16";
    const values = packed
      ? new Uint16Array((await checkpoint.read(key)).buffer)
      : await checkpoint.readF32(key);
    params.set(path, upload(gpu, values, { shape, label: path }));
  }
  await checkAllocations(gpu);
  return { ...model, params: unflatten(params) as P, scoreBytes: scoreBytes(gpu) };
}

/** Refuses a checkpoint whose tensors are not those that the model declares. */
function checkCheckpoint<I extends object>(
  checkpoint: SafetensorsFile,
  { model, file }: { readonly model: ModelDescription<I>; readonly file: string },
): void {
  const { name: family, ignored = [] } = model.family;
  const invalid = (key: string, rule: string, seen: string): Error =>
    new DataError(`Cannot load "${key}" of "${checkpoint.path}" as ${rule}: ${seen}`);
  const declared = [...declaredParams(model).values()], keys = new Set(declared.map(({ key }) => key));
  for (const name of checkpoint.names) {
    if (keys.has(name) || ignored.some((pattern) => pattern.test(name))) continue;
    throw invalid(name, `"${file}" describes a ${family} without it`, "check that both belong together");
  }
  for (const { key, shape, tiedTo } of declared) {
    const stored = checkpoint.specs.get(key);
    if (stored === undefined) {
      if (tiedTo !== undefined) continue;
      const seen = "it is missing; check that both belong together";
      throw invalid(key, `"${file}" describes a ${family} that needs it`, seen);
    }
    if (!sameShape(stored.shape, shape)) {
      const rule = `"${file}" gives it the shape [${shape.join(", ")}]`;
      throw invalid(key, rule, `it has [${stored.shape.join(", ")}]`);
    }
  }
}
