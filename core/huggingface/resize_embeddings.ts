/**
 * Room for new tokens.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { read } from "../infer/read.ts";
import { isRecord } from "../json_rules.ts";
import type { TokenInput } from "../models/family.ts";
import { describeModel, type Model, modelParams } from "../models/model.ts";
import { bytesOf } from "../plan/storage.ts";
import { checkAllocations, checkSize, SMALLER_MODEL } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { sameShape } from "../spec.ts";
import { flatten, unflatten } from "../tree.ts";
import { uploadPacked } from "./upload_packed.ts";

/**
 * Gives a model a larger vocabulary: rows for the new ids in the table of embeddings and in the head, tied or not. A new row is
 * the mean of the old ones, so that a new token is at first as likely as an average one.
 *
 * Source: Hewitt, "Initializing New Word Embeddings for Pretrained Language Models", 2021.
 *
 * @param gpu The device that holds the parameters
 * @param model The model, before an adapter is loaded
 * @param options `vocabSize`: ids of the new vocabulary, at least as many as before
 * @returns The model with new tensors in place of those that grew; all else is shared with `model`. Free the old ones with `free`
 * @throws {InputError} When the vocabulary would shrink, or the model holds LoRA pairs
 * @throws {OutOfMemoryError} When a table would be larger than a buffer of the device can be
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { flatten, openGpu } from "@firn/train";
 * import { newModel, resizeEmbeddings } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const model = await newModel(gpu, { source, seed: 1 });
 * const larger = await resizeEmbeddings(gpu, model, { vocabSize: 12 });
 * assertEquals(flatten(larger.params).get("model.embed_tokens.weight")!.shape, [12, 8]);
 * ```
 */
export async function resizeEmbeddings<P extends object, I extends object = TokenInput>(
  gpu: Gpu,
  model: Model<P, I>,
  { vocabSize }: { readonly vocabSize: number },
): Promise<Model<P, I>> {
  const leaves = flatten(model.params), before = modelParams(model);
  const pair = [...leaves.keys()].find((path) => path.includes(".lora_"));
  if (pair !== undefined) {
    throw new InputError(
      `Cannot resize embeddings as the model must hold no adapter: it has "${pair}"; merge it first`,
    );
  }
  const source = withVocabulary(model.source, vocabSize);
  const { config } = describeModel<I>(source, {
    families: { [model.family.name]: model.family as never },
    file: "config.json",
  });
  const next = new Map(leaves);
  for (const [path, { shape }] of modelParams({ ...model, config })) {
    const old = before.get(path);
    if (old === undefined || sameShape(old.shape, shape)) continue;
    if (shape[0] < old.shape[0]) {
      throw new InputError(
        `Cannot resize embeddings as no row may be lost: "${path}" has ${
          old.shape[0]
        }, and vocabSize is ${vocabSize}`,
      );
    }
    const weight = leaves.get(path)!, spec = { shape, dtype: weight.dtype };
    checkSize(gpu, { label: path, bytes: bytesOf(spec), mend: SMALLER_MODEL });
    const values = grown(await read(gpu, weight) as Float32Array, { rows: old.shape[0], shape });
    next.set(path, uploadPacked(gpu, values, { path, ...spec }));
  }
  await checkAllocations(gpu);
  return { ...model, config, source, params: unflatten(next) as P };
}

/** The configuration with another vocabulary, where it stands: at the top, or in the part of the text. */
function withVocabulary(
  source: Readonly<Record<string, unknown>>,
  size: number,
): Readonly<Record<string, unknown>> {
  const { text_config: text } = source;
  return {
    ...source,
    ...(source.vocab_size !== undefined || !isRecord(text)) && { vocab_size: size },
    ...isRecord(text) && { text_config: { ...text, vocab_size: size } },
  };
}

/** The values with rows of their mean after them. */
function grown(
  values: Float32Array,
  { rows, shape }: { readonly rows: number; readonly shape: readonly number[] },
): Float32Array<ArrayBuffer> {
  const width = values.length / rows, sums = new Float64Array(width);
  for (let i = 0; i < values.length; i++) sums[i % width] += values[i];
  const all = new Float32Array(shape[0] * width);
  all.set(values);
  for (let i = values.length; i < all.length; i++) all[i] = sums[i % width] / rows;
  return all;
}
