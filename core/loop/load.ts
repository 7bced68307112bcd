/**
 * Models from Hugging Face folders, and new ones.
 *
 * @module
 */

import { openCheckpoint } from "../data/checkpoint_files.ts";
import { readJson } from "../data/json_file.ts";
import { checkAllocations, type Gpu } from "../gpu/device.ts";
import { upload } from "../gpu/run.ts";
import { families } from "../models/mod.ts";
import { describeModel, type Model } from "../models/model.ts";
import { sameShape, sizeOf, type Tensor } from "../tensor.ts";
import { type Path, unflatten } from "../tree.ts";
import { normalValues } from "../../kernels/random.ts";

/**
 * Loads a model from a Hugging Face folder: `config.json` and `model.safetensors` (or its shards).
 *
 * Tensors are read one by one and widened to f32; a tied head is one parameter, that of the embedding.
 *
 * @param gpu The device that will hold the parameters
 * @param folder The folder
 * @returns The model; any parameter type can be asked for, `loadModel<LlamaParams>(...)`
 * @throws {TypeError} When the family is unknown or a value of `config.json` does not fit
 * @throws {Deno.errors.InvalidData} When a tensor is missing, unexpected or of another shape
 * @throws {OutOfMemoryError} When the device has no room
 */
export async function loadModel<P extends object = object>(gpu: Gpu, folder: string): Promise<Model<P>> {
  const file = `${folder}/config.json`;
  const model = describeModel(await readJson(file), { families, file });
  const { family, config } = model;
  await using checkpoint = await openCheckpoint(folder);
  const shapes = family.shapes(config);
  const invalid = (key: string, rule: string, seen: string): Error =>
    new Deno.errors.InvalidData(`Cannot load "${key}" of "${checkpoint.path}" as ${rule}: ${seen}`);
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
    params.set(path, upload(gpu, await checkpoint.readF32(path), { shape, label: path }));
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
