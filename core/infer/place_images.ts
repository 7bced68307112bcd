/**
 * Prompts with images in them.
 *
 * Axes: B prompts, I images of a prompt, S states of an image, V entries of the vocabulary, C channels.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { InputError } from "../errors.ts";
import { embedding } from "../nn/embedding.ts";
import { headOf, type Model, outputOf } from "../models/model.ts";
import {
  idefics3,
  imageStates,
  type ImageTextInput,
  smolVlm,
  type SmolVlmConfig,
  type SmolVlmParams,
} from "../models/smolvlm.ts";
import { arange } from "../ops/arange.ts";
import { reshape } from "../ops/movement.ts";
import { checkAllocations } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { upload } from "../runtime/upload.ts";
import type { Tensor } from "../tensor.ts";
import { flatten } from "../tree.ts";
import { readAll } from "./read.ts";

/** Prompts and their images. */
export interface ImagePrompts
  extends Required<Pick<ImageTextInput, "pixelValues">>, Pick<ImageTextInput, "pixelAttentionMask"> {
  /** Ids of each prompt, B lists; each image takes S image tokens. */
  readonly prompts: readonly (Int32Array | readonly number[])[];
}

/** A model that has seen images. */
export interface PlacedImages {
  /** The model, with a row for each state in its table of embeddings. What is new in it, {@link free} frees. */
  readonly model: Model;
  /** The prompts, with the ids of these rows in place of image tokens. */
  readonly prompts: readonly (readonly number[])[];
}

/** The score of an id that stands for a state of an image: it is never chosen. */
const NEVER = -1e30;

/**
 * Puts images into prompts, so that text can be generated from both. The states of the images become rows of the table of
 * embeddings, behind those of the vocabulary, and the prompts name them. Whatever generates text takes the result as it is:
 * `generate`, `defineGeneration`.
 *
 * @param gpu The device that holds the parameters
 * @param model A SmolVLM or Idefics3
 * @param options The prompts, `pixelValues` f32 [B, I, channels, height, width], and which of the pixels are padding
 * @returns The model and the prompts; tensors other than the table and the head are shared with `model`
 * @throws {InputError} When the model takes no images, holds an adapter on its table, or a prompt has image tokens that are not
 * whole images
 * @throws {ShapeError} When the images have another shape than the model takes
 * @throws {OutOfMemoryError} When the device has no room for the larger table
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, tensor } from "@firn/train";
 * import { generate, placeImages } from "@firn/train/infer";
 * import type { ImageTextInput } from "@firn/train/models";
 * import { newModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const sizes = { hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2 };
 * const source = { model_type: "smolvlm", image_token_id: 9, scale_factor: 2,
 *   vision_config: { ...sizes, image_size: 4, patch_size: 2, num_channels: 1 },
 *   text_config: { ...sizes, vocab_size: 10 } };
 * const smolVlm = await newModel<object, ImageTextInput>(gpu, { source, seed: 1 });
 * const pixelValues = tensor(Array.from({ length: 16 }, (_, i) => i / 16), [1, 1, 1, 4, 4]);
 * const { model, prompts: [prompt] } = await placeImages(gpu, smolVlm, { prompts: [[1, 9, 2]], pixelValues });
 * assertEquals((await Array.fromAsync(generate(gpu, model, { prompt, maxTokens: 3, stop: [] }))).length, 3);
 * ```
 */
export async function placeImages(
  gpu: Gpu,
  model: Model<object, ImageTextInput>,
  { prompts, pixelValues, pixelAttentionMask }: ImagePrompts,
): Promise<PlacedImages> {
  if (
    !(model.family.name === idefics3.name || model.family.name === smolVlm.name) ||
    headOf(model).task !== "nextToken"
  ) {
    throw new InputError(
      `Cannot place images in prompts of "${model.architecture}" as it must be a model of text with images: it is none`,
    );
  }
  const config = model.config as SmolVlmConfig, params = model.params as SmolVlmParams, { loraScale } = model;
  const tables = { embed_tokens: params.model.text_model.embed_tokens, head: outputOf(model) };
  const pair = [...flatten(tables).keys()].find((path) => path.includes("lora_"));
  if (pair !== undefined) {
    throw new InputError(
      `Cannot place images in prompts as the table and the head must hold no adapter: merge it first`,
    );
  }
  const { vocabSize, hiddenSize } = config,
    states = imageStates(params, { pixelValues, pixelAttentionMask }, { config, loraScale });
  const [count, each] = states.shape, images = pixelValues.shape[1], placed = count * each;
  const found = prompts.map((prompt, b) =>
    withStates(prompt, { config, images, each, first: vocabSize + b * images * each })
  );
  if (prompts.length * images !== count) {
    throw new InputError(
      `Cannot place images in prompts as there must be ${images} for each: "pixelValues" has those of ${
        count / images
      } ` +
        `prompts, and there are ${prompts.length}`,
    );
  }
  const rowsOf = (weight: Tensor): Tensor => embedding(arange(vocabSize), { weight });
  const { embed_tokens, head } = tables, tied = embed_tokens.weight === head.weight;
  const [seen, words, outputs = words] = await readAll(gpu, [
    reshape(states, [placed, hiddenSize]),
    rowsOf(embed_tokens.weight),
    ...tied ? [] : [rowsOf(head.weight)],
  ]) as Float32Array[];
  const table = (values: Float32Array, more: Float32Array | null, label: string): Tensor => {
    const all = new Float32Array((vocabSize + placed) * hiddenSize);
    all.set(values);
    if (more !== null) all.set(more, values.length);
    return upload(gpu, all, { shape: [vocabSize + placed, hiddenSize], label });
  };
  const bias = new Float32Array(vocabSize + placed).fill(NEVER, vocabSize);
  const text_model = {
    ...params.model.text_model,
    embed_tokens: { weight: table(words, seen, "model.text_model.embed_tokens.weight") },
  };
  const lm_head = {
    weight: table(outputs, null, "lm_head.weight"),
    bias: upload(gpu, bias, { shape: [bias.length], label: "lm_head.bias" }),
  };
  await checkAllocations(gpu);
  return {
    model: {
      ...model,
      params: { ...params, model: { ...params.model, text_model }, lm_head },
    } as unknown as Model,
    prompts: found,
  };
}

/** A prompt whose n-th image token is the n-th id from `first` on. */
function withStates(
  prompt: Int32Array | readonly number[],
  { config: { imageToken }, images, each, first }: {
    readonly config: SmolVlmConfig;
    readonly images: number;
    readonly each: number;
    readonly first: number;
  },
): number[] {
  const count = Array.from(prompt).filter((id) => id === imageToken).length;
  if (count % each !== 0 || count > images * each) {
    throw new InputError(
      `Cannot place images in a prompt as each takes ${counted(each, "token")} ${imageToken}, at most ${
        images * each
      } in all: it has ${count}`,
    );
  }
  let next = first;
  return Array.from(prompt, (id) => id === imageToken ? next++ : id);
}
