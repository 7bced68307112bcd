/**
 * Models from Hugging Face folders, and new ones.
 *
 * @module
 */

import { openCheckpoint } from "./shards.ts";
import { DataError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { readJson } from "../host/json_file.ts";
import { checkAllocations, type Gpu } from "../runtime/device.ts";
import { upload } from "../runtime/record.ts";
import { families } from "../models/mod.ts";
import { describeModel, type Model } from "../models/model.ts";
import { sameShape, sizeOf, type Tensor } from "../tensor.ts";
import { type Path, unflatten } from "../tree.ts";
import { normalValues } from "../../kernels/random.ts";

/** Options of {@link loadModel}. */
export interface LoadOptions extends FileSystemOptions {
  /**
   * How the device stores the parameters. `f32`, as when absent: all may be trained. `file`: matrices that the file
   * stores as bfloat16 stay so, in half the memory; they cannot be trained, LoRA pairs beside them can.
   */
  readonly storage?: "f32" | "file";
}

/**
 * Loads a model from a Hugging Face folder: `config.json` and `model.safetensors` (or its shards).
 *
 * Tensors are read one by one and widened to f32; a tied head is one parameter, that of the embedding. With storage
 * `file`, matrices of bfloat16 are widened where a kernel reads them: results have the same bits for the same kernels.
 *
 * @param gpu The device that will hold the parameters
 * @param folder The folder
 * @param options How the device stores the parameters
 * @returns The model; any parameter type can be asked for, `loadModel<LlamaParams>(...)`
 * @throws {TypeError} When the family is unknown or a value of `config.json` does not fit
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
export async function loadModel<P extends object = object>(
  gpu: Gpu,
  folder: string,
  options: LoadOptions = {},
): Promise<Model<P>> {
  const { storage = "f32" } = options;
  const file = `${folder}/config.json`;
  const model = describeModel(await readJson(file, options), { families, file });
  const { family, config } = model;
  await using checkpoint = await openCheckpoint(folder, options);
  const shapes = family.shapes(config);
  const invalid = (key: string, rule: string, seen: string): Error =>
    new DataError(`Cannot load "${key}" of "${checkpoint.path}" as ${rule}: ${seen}`);
  for (const name of checkpoint.names) {
    if (shapes.has(name) || family.ignores?.(name, config)) continue;
    throw invalid(name, `"${file}" describes a ${family.name} without it`, "check that both belong together");
  }
  for (const [path, shape] of shapes) {
    const stored = checkpoint.specs.get(path);
    if (stored === undefined) {
      throw invalid(
        path,
        `"${file}" describes a ${family.name} that needs it`,
        "it is missing; check that both belong together",
      );
    }
    if (!sameShape(stored.shape, shape)) {
      throw invalid(
        path,
        `"${file}" gives it the shape [${shape.join(", ")}]`,
        `it has [${stored.shape.join(", ")}]`,
      );
    }
  }
  const params = new Map<Path, Tensor>();
  for (const [path, shape] of shapes) {
    const packed = storage === "file" && shape.length === 2 && checkpoint.specs.get(path)!.dtype === "BF16";
    const values = packed
      ? new Uint16Array((await checkpoint.read(path)).buffer)
      : await checkpoint.readF32(path);
    params.set(path, upload(gpu, values, { shape, label: path }));
  }
  await checkAllocations(gpu);
  return { ...model, params: unflatten(params) as P, scoreBytes: scoreBytes(gpu) };
}

/**
 * Makes a model with random weights, to train it from scratch.
 *
 * Matrices are normal with the family's standard deviation, norms are one, biases zero.
 *
 * @param gpu The device that will hold the parameters
 * @param options `source`: content of a `config.json`; `seed`: the same seed gives the same bits
 * @returns The model
 * @throws {TypeError} When the family is unknown or a value of the configuration does not fit
 */
export async function newModel<P extends object = object>(
  gpu: Gpu,
  { source, seed }: { readonly source: Readonly<Record<string, unknown>>; readonly seed: number },
): Promise<Model<P>> {
  const model = describeModel(source, { families, file: "config.json" });
  const params = new Map<Path, Tensor>();
  let stream = 0;
  for (const [path, shape] of model.family.shapes(model.config)) {
    const size = sizeOf(shape), deviation = model.family.normal(path);
    const values = path.endsWith(".bias")
      ? new Float32Array(size)
      : deviation === null
      ? new Float32Array(size).fill(1)
      : normalValues({ size, key: [seed >>> 0, stream++] }).map((x) => x * deviation);
    params.set(path, upload(gpu, values, { shape, label: path }));
  }
  await checkAllocations(gpu);
  return { ...model, params: unflatten(params) as P, scoreBytes: scoreBytes(gpu) };
}

/** More scores at a time make the products of the head faster, up to a point. */
const SCORES = 2 ** 29;

function scoreBytes({ device: { limits } }: Gpu): number {
  return Math.min(SCORES, limits.maxStorageBufferBindingSize);
}
