/**
 * Merges LoRA pairs into the weights that they adapt.
 *
 * @module
 */

import { indexOfNonFinite } from "../data/floats.ts";
import { DataError, InputError } from "../errors.ts";
import { read, readAll } from "../infer/read.ts";
import { checkAllocations } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { free } from "../runtime/residents.ts";
import type { Family, TokenInput } from "../models/family.ts";
import { declaredParams, describeModel, type Model, tiedParams } from "../models/model.ts";
import { adaptedWeight } from "../nn/lora.ts";
import type { Layout } from "../nn/params.ts";
import { add, multiply } from "../ops/arithmetic.ts";
import { sum } from "../ops/broadcast.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type Leaves, type Path, unflatten } from "../tree.ts";
import { heldPair } from "./adapter_layout.ts";
import { checkStorage, type Storage, storedIn } from "./storage.ts";
import { moduleOf } from "../train/freeze/components.ts";
import { copyToDevice } from "../train/state/upload.ts";
import { uploadPacked } from "./upload_packed.ts";

/** Options of {@link mergeAdapter}. */
export interface MergeOptions {
  /** Paths of the modules whose pairs are merged, such as `state.frozen`; those without a pair stay. All when absent. */
  readonly paths?: readonly Path[];
  /** How the device stores the new weights: f32 when absent; `file` stands for the 16-bit type that a weight had, or bf16. */
  readonly storage?: Storage;
}

/**
 * Merges LoRA pairs into the weights that they adapt: `W + scale B A`, with DoRA at the length that its magnitudes say, in f32
 * on the device. A merged pair costs no time in training or generation. Pairs that are not merged are trained as before.
 * Merge pairs between two runs, once a policy has frozen them. A head that is tied to an adapted table is untied.
 *
 * Source: Hu et al., "LoRA", arXiv 2106.09685, section 4.1, "no additional inference latency".
 *
 * @param gpu The device that holds the parameters
 * @param model The model; of a training run `{ ...model, params: state.params }`
 * @param options Which pairs, all when absent; how the new weights are stored
 * @returns The model without those pairs, with new weights in place of those that they adapt. All else is shared with
 * `model`. If no pair is left, all parameters are trainable
 * @throws {InputError} When there is no pair to merge, or one is not whole
 * @throws {InputError} When the model has no module of a given path
 * @throws {DataError} When a new weight is not finite
 * @throws {OutOfMemoryError} When the device has no room for the new weights
 *
 * @example The pairs of a frozen module are merged before the next run
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import {
 *   adamW, defineTraining, fill, flatten, type Model, nextTokenLoss, openGpu, type Tensor, tensor, unflatten,
 * } from "@firn/train";
 * import type { LlamaParams } from "@firn/train/models";
 * import { mergeAdapter, newModel } from "@firn/train/hub";
 * import { only, stopAt } from "@firn/train/policies";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1,
 *   num_attention_heads: 1, vocab_size: 8, tie_word_embeddings: true };
 * const base = await newModel<LlamaParams>(gpu, { source, seed: 1 });
 * const [q, v] = ["q_proj", "v_proj"].map((name) => `model.layers.0.self_attn.${name}`);
 * const pairs = new Map<string, Tensor>([q, v].flatMap((at) => [
 *   [`${at}.lora_A.weight`, fill(0.1, [2, 8])],
 *   [`${at}.lora_B.weight`, fill(0, [8, 2])],
 * ] as const));
 * const params = unflatten(new Map([...flatten(base.params), ...pairs])) as unknown as LlamaParams;
 * const model: Model<LlamaParams> = { ...base, params, loraScale: 2, trainable: (path) => pairs.has(path) };
 *
 * const training = defineTraining(gpu, nextTokenLoss(model), {
 *   optimizer: adamW({ learningRate: 0.01 }),
 *   policy: only(({ path }) => path === q, stopAt(1)),
 *   steps: 2,
 *   lookEvery: 1,
 * });
 * const ids = tensor(new Int32Array([1, 2, 3, 4]), [1, 4]);
 * let state = await training.init(model.params);
 * while (!state.done) state = await training.next(state, { inputIds: ids, labels: ids });
 * assertEquals(state.frozen, [q]);
 *
 * const next = await mergeAdapter(gpu, { ...model, params: state.params }, { paths: state.frozen });
 * assertEquals([...flatten(next.params).keys()].filter(model.trainable!), [
 *   `${v}.lora_A.weight`,
 *   `${v}.lora_B.weight`,
 * ]);
 * ```
 */
export async function mergeAdapter<P extends object, I extends object = TokenInput>(
  gpu: Gpu,
  model: Model<P, I>,
  { paths, storage = "f32" }: MergeOptions = {},
): Promise<Model<P, I>> {
  checkStorage(storage, "merge the adapter");
  const leaves = flatten(model.params), modules = new Set([...leaves.keys()].map(moduleOf));
  const unknown = paths?.find((path) => !modules.has(path));
  if (unknown !== undefined) {
    throw new InputError(`Cannot merge "${unknown}" as the model must have it: its modules have other paths`);
  }
  const adapted = [...modules].filter((path) =>
    [...leaves.keys()].some((leaf) => leaf.startsWith(`${path}.lora_`)) && (paths?.includes(path) ?? true)
  );
  if (adapted.length === 0) {
    throw new InputError(
      `Cannot merge the adapter as there must be LoRA pairs to merge: ${
        paths === undefined ? "the model has none" : "the given modules have none"
      }`,
    );
  }
  const declared = declaredParams(model), tied = tiedParams(model);
  const sums = new Map(adapted.flatMap((path) => {
    const { layout, use } = declared.get(`${path}.weight`) ?? {};
    const scale = model.adapter?.layers.get(path)?.scale ?? model.loraScale ?? 1;
    return merged(path, {
      leaves,
      scale,
      tied,
      layout: use === "table" || layout === "inOut" ? "inOut" : "outIn",
    });
  }));
  const next = new Map(leaves);
  // A head that was tied to a table keeps the table that it had.
  for (const [path, source] of tied) {
    if (sums.has(source) && !next.has(path)) next.set(path, leaves.get(source)!);
  }
  for (const [path, source] of sums) {
    next.set(path, await copyToDevice(gpu, { path, source, constant: true }));
    for (const leaf of leaves.keys()) if (leaf.startsWith(`${moduleOf(path)}.lora_`)) next.delete(leaf);
  }
  await checkAllocations(gpu);
  await checkFinite(gpu, [...sums.keys()].map((path) => [path, next.get(path)!]));
  for (const path of storage === "f32" ? [] : sums.keys()) {
    const wide = next.get(path)!, had = leaves.get(path)?.dtype === "f16" ? "F16" : "BF16";
    const dtype = storedIn(storage, { path, shape: wide.shape, dtype: had, use: declared.get(path)?.use });
    if (dtype === "f32") continue;
    const values = await read(gpu, wide) as Float32Array<ArrayBuffer>;
    next.set(path, uploadPacked(gpu, values, { path, shape: wide.shape, dtype, constant: true }));
    free({ wide });
  }
  await checkAllocations(gpu);
  return withoutMerged(model, { next, sums: new Set(sums.keys()) });
}

/** The model with other parameters, and what is left of its adapter. */
function withoutMerged<P extends object, I extends object>(
  model: Model<P, I>,
  { next, sums }: { readonly next: Leaves; readonly sums: ReadonlySet<Path> },
): Model<P, I> {
  const { adapter, loraScale: _, trainable: __, ...plain } = model, params = unflatten(next) as P;
  const { family, source } = model, untied = [...tiedParams(model).keys()].some((path) => next.has(path));
  const described = untied
    ? describeModel<I>({ ...source, tie_word_embeddings: false }, {
      families: { [String(source.model_type)]: family as unknown as Family },
      file: "config.json",
    })
    : {};
  if (heldPair(next) === undefined) return { ...plain, ...described, params };
  if (adapter === undefined) return { ...model, ...described, params };
  const own = new Set([...adapter.paths].filter((path) => next.has(path) && !sums.has(path)));
  const merged = new Set([...sums].map(moduleOf));
  return {
    ...model,
    ...described,
    params,
    adapter: {
      ...adapter,
      layers: new Map([...adapter.layers].filter(([path]) => !merged.has(path))),
      paths: own,
      replaced: new Map([...adapter.replaced].filter(([path]) => own.has(path))),
    },
  };
}

/** Refuses merged weights that are not finite, and frees them all. One sum a weight tells; only its weight is read. */
async function checkFinite(gpu: Gpu, weights: readonly (readonly [Path, Tensor])[]): Promise<void> {
  const sums = await readAll(gpu, weights.map(([, weight]) => sum(weight)));
  for (const [i, [path, weight]] of weights.entries()) {
    if (Number.isFinite(sums[i][0])) continue;
    const values = await read(gpu, weight), at = indexOfNonFinite(values);
    if (at < 0) continue;
    free(Object.fromEntries(weights));
    throw new DataError(
      `Cannot merge "${moduleOf(path)}" as its sum with the pair must be finite: value ${at} is ${
        values[at]
      }; ` +
        "take the adapter from a checkpoint before it was not",
    );
  }
}

/** The weight of a module with its pair, and its bias where the pair has one, to be computed. */
function merged(
  path: Path,
  { leaves, scale, layout, tied }: {
    readonly leaves: Leaves;
    readonly scale: number;
    readonly layout: Layout;
    readonly tied: ReadonlyMap<Path, Path>;
  },
): (readonly [Path, Tensor])[] {
  const at = `${path}.weight`, source = leaves.has(at) ? at : tied.get(at) ?? at;
  const isTable = leaves.has(`${path}.lora_embedding_A`) || leaves.has(`${path}.lora_embedding_B`);
  const halves = isTable ? ["lora_embedding_A", "lora_embedding_B"] : ["lora_A.weight", "lora_B.weight"];
  const names = [source, ...halves.map((half) => `${path}.${half}`)];
  const missing = names.find((name) => !leaves.has(name));
  if (missing !== undefined) {
    throw new InputError(
      `Cannot merge "${path}" as a pair must be whole and adapt a weight: "${missing}" is missing`,
    );
  }
  const [weight, a, b] = names.map((name) => leaves.get(name)!);
  const pair = { a, b, magnitude: leaves.get(`${path}.lora_magnitude_vector`) };
  const sum = [at, adaptedWeight(weight, pair, { scale, layout })] as const;
  const more = leaves.get(`${path}.lora_B.bias`), bias = leaves.get(`${path}.bias`);
  if (more === undefined) return [sum];
  if (bias === undefined) {
    throw new InputError(
      `Cannot merge "${path}" as a bias of its pair must have one to be added to: it has none`,
    );
  }
  return [sum, [`${path}.bias`, add(bias, multiply(more, scale))]];
}
