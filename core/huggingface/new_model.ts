/**
 * Models with random weights.
 *
 * @module
 */

import { normalValues } from "../../kernels/random.ts";
import { configReader } from "../models/config_reader.ts";
import type { TokenInput } from "../models/family.ts";
import { families as known } from "../models/mod.ts";
import type { ParamSpec } from "../nn/params.ts";
import { describeModel, type Families, type Model, modelParams } from "../models/model.ts";
import { checkAllocations, checkSize, SMALLER_MODEL } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { upload } from "../runtime/upload.ts";
import { sizeOf } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { type Path, unflatten } from "../tree.ts";

/** Options of {@link newModel}. */
export interface NewModelOptions {
  /** Content of a `config.json`. */
  readonly source: Readonly<Record<string, unknown>>;
  /** The same seed gives the same bits. */
  readonly seed: number;
  /** Families by `model_type`; those of this package when absent. */
  readonly families?: Families;
}

/**
 * Makes a model with random weights, to train it from scratch.
 *
 * Matrices are normal with the deviation `initializer_range` (0.02 when absent), gains of norms are one, biases zero.
 *
 * @param gpu The device that will hold the parameters
 * @param options Configuration and seed
 * @returns The model
 * @throws {InputError} When the family is unknown or a value of the configuration does not fit
 * @throws {OutOfMemoryError} When a parameter is larger than a buffer of the device can be
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { flatten, openGpu, read } from "@firn/train";
 * import { newModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const { params } = await newModel(gpu, { source, seed: 1 });
 * assertEquals([...await read(gpu, flatten(params).get("model.norm.weight")!)], Array(8).fill(1));
 * ```
 */
export async function newModel<P extends object = object, I extends object = TokenInput>(
  gpu: Gpu,
  { source, seed, families = known }: NewModelOptions,
): Promise<Model<P, I>> {
  const file = "config.json";
  const model = describeModel<I>(source, { families, file });
  const deviation = deviationOf(source, file);
  for (const [path, { shape }] of modelParams(model)) {
    checkSize(gpu, { label: path, bytes: 4 * sizeOf(shape), mend: SMALLER_MODEL });
  }
  const draw = drawing({ seed, deviation });
  const params = new Map<Path, Tensor>();
  for (const [path, spec] of modelParams(model)) {
    params.set(path, upload(gpu, draw(spec), { shape: spec.shape, label: path }));
  }
  await checkAllocations(gpu);
  return { ...model, params: unflatten(params) as P, scoreBytes: scoreBytes(gpu) };
}

/**
 * The standard deviation of new matrices.
 *
 * @param source Content of `config.json`
 * @param file Its path, for errors
 * @returns Its `initializer_range`, 0.02 when absent
 * @throws {InputError} When it is not above 0
 */
export function deviationOf(source: Readonly<Record<string, unknown>>, file: string): number {
  return configReader(source, file).number("initializer_range", 0.02);
}

/**
 * Draws the initial values of one parameter after another.
 *
 * @param options The seed, and the standard deviation of normal values
 * @returns From a declaration to values, other ones at each call
 */
export function drawing(
  { seed, deviation }: { readonly seed: number; readonly deviation: number },
): (spec: ParamSpec) => Float32Array<ArrayBuffer> {
  let stream = 0;
  return ({ shape, init }) => {
    const size = sizeOf(shape);
    return init === "normal"
      ? normalValues({ size, key: [seed >>> 0, stream++] }).map((x) => x * deviation)
      : new Float32Array(size).fill(init === "ones" ? 1 : 0);
  };
}

/** More scores at a time make the products of the head faster, up to a point. */
const SCORES = 2 ** 29;

/**
 * How many bytes of scores the loss of a model may hold at a time.
 *
 * @param gpu The device
 * @returns Bytes that one binding can have
 */
export function scoreBytes({ target: { maxBindingBytes = Infinity } }: Gpu): number {
  return Math.min(SCORES, maxBindingBytes);
}
