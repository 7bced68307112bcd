/**
 * Idefics3 and SmolVLM: an image tower whose states take the place of image tokens in a Llama.
 *
 * Source: Laurencon et al., "Building and better understanding vision-language models", arXiv 2408.12637, section 3;
 * Marafioti et al., "SmolVLM", arXiv 2504.05299; names are those of `transformers`.
 *
 * Axes: B batch, T time, I images of a sequence, S states of an image, C channels.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { InputError, ShapeError } from "../errors.ts";
import { dropoutsWithin } from "../nn/dropout.ts";
import { embedding } from "../nn/embedding.ts";
import { linear, linearParams, type LinearSpec } from "../nn/linear.ts";
import { type ParamsOf, stored } from "../nn/params.ts";
import { add, cast, subtract } from "../ops/arithmetic.ts";
import { equal, less, where } from "../ops/comparison.ts";
import { embedding as rowsOf } from "../ops/embedding.ts";
import { cumsum } from "../ops/cumsum.ts";
import { integers } from "../ops/integers.ts";
import { permute, reshape } from "../ops/movement.ts";
import { hostValues, isHost, tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import type { ConfigReader } from "./config_reader.ts";
import type { Family, HiddenOptions, TokenInput } from "./family.ts";
import { decode, type LlamaConfig, llamaModel, readLlama } from "./llama.ts";
import { type LmHeadParams, tokenHead } from "./lm_head.ts";
import type { Grid } from "./image_places.ts";
import { gridOf, readSiglip, siglip, type SiglipConfig, siglipModel } from "./siglip.ts";

/** Text with images in it. */
export interface ImageTextInput extends TokenInput {
  /**
   * f32 [B, I, channels, height, width]: the images of each sequence, in the order of their tokens. A sequence with fewer
   * is filled up behind them. No images when absent.
   */
  readonly pixelValues?: Tensor;
  /**
   * i32 [B, I, height, width]: 1 for a pixel, 0 for padding, which stands below and to the right of an image; no padding when
   * absent.
   */
  readonly pixelAttentionMask?: Tensor;
}

/** The values of `config.json` that the model depends on. */
export interface SmolVlmConfig {
  /** The decoder. */
  readonly text: LlamaConfig;
  /** The image tower. */
  readonly vision: SiglipConfig;
  /** The token that stands for a state of an image. */
  readonly imageToken: number;
  /** A square of this many patches on a side becomes one state. */
  readonly scale: number;
  /** Entries of the vocabulary V. */
  readonly vocabSize: number;
  /** Channels of the decoder C. */
  readonly hiddenSize: number;
  /** The head is the embedding. */
  readonly tied: boolean;
}

function parse(read: ConfigReader): SmolVlmConfig {
  const text = read.sub("text_config");
  text.only("model_type", "llama");
  const decoder = readLlama(text), vision = readSiglip(read.sub("vision_config"));
  const scale = read.count("scale_factor", 2);
  if (vision.side % scale !== 0) {
    throw read.error(
      "scale_factor",
      `it must divide the ${vision.side} patches on a side of an image`,
      scale,
    );
  }
  const imageToken = read.id("image_token_id", 128257);
  if (imageToken >= decoder.vocabSize) {
    throw read.error(
      "image_token_id",
      `it must be below text_config.vocab_size ${decoder.vocabSize}`,
      imageToken,
    );
  }
  return {
    text: decoder,
    vision,
    imageToken,
    scale,
    vocabSize: decoder.vocabSize,
    hiddenSize: decoder.hiddenSize,
    tied: read.boolean("tie_word_embeddings", false),
  };
}

/**
 * Declares all parameters but the head.
 *
 * @internal
 */
export const smolVlmModel = (c: SmolVlmConfig) => ({
  model: {
    vision_model: siglipModel(c.vision) as ReturnType<typeof siglipModel>,
    connector: stored("connector.modality_projection", {
      proj: linearParams([c.hiddenSize, c.vision.hiddenSize * c.scale ** 2]),
    }) as { proj: LinearSpec },
    text_model: llamaModel(c.text).model as ReturnType<typeof llamaModel>["model"],
  },
});

/** Parameters of the model; paths are those of blocks, keys those of checkpoints. */
export type SmolVlmParams = ParamsOf<typeof smolVlmModel> & LmHeadParams;

function hidden(
  params: SmolVlmParams,
  { inputIds, attentionMask, segments, ...images }: ImageTextInput,
  options: HiddenOptions<SmolVlmConfig>,
): Tensor {
  const { config, loraScale } = options, { text_model } = params.model, { pixelValues } = images;
  const dropout = dropoutsWithin(options.dropout, "text_config");
  const words = embedding(inputIds, text_model.embed_tokens, config.text); // [B, T, C]
  const text = { config: config.text, loraScale, dropout, attentionMask, segments };
  if (pixelValues === undefined) return decode(text_model, words, text);
  if (pixelValues.shape[0] !== inputIds.shape[0]) {
    const rule = '"pixelValues" must be [B, I, channels, height, width] with B that of "inputIds"';
    throw new ShapeError("hiddenStates", rule, [pixelValues.shape, inputIds.shape]);
  }
  const states = imageStates(params, { ...images, pixelValues }, options);
  const [count, each] = states.shape, own = pixelValues.shape[1];
  checkTokens(inputIds, { config, images: own, each });
  const rows = reshape(states, [count * each, config.hiddenSize]);
  const isImage = equal(cast(inputIds), config.imageToken); // [B, T]
  const found = rowsOf(rows, stateIndices(isImage, own * each));
  return decode(text_model, where(reshape(isImage, [...inputIds.shape, 1]), found, words), text);
}

/**
 * The states of images, which take the place of image tokens.
 *
 * @param params Parameters of the model
 * @param input The images, and which of their pixels are padding
 * @param options The configuration
 * @returns f32 [B I, S, C]
 * @throws {ShapeError} When the images have another shape than the model takes
 */
export function imageStates(
  { model: { vision_model, connector } }: SmolVlmParams,
  { pixelValues, pixelAttentionMask }:
    & Required<Pick<ImageTextInput, "pixelValues">>
    & Pick<ImageTextInput, "pixelAttentionMask">,
  { config, loraScale, dropout }: HiddenOptions<SmolVlmConfig>,
): Tensor {
  const joined = (x: Tensor): Tensor => reshape(x, [x.shape[0] * x.shape[1], ...x.shape.slice(2)]);
  if (pixelValues.shape.length !== 5) {
    const rule = '"pixelValues" must be [B, I, channels, height, width]';
    throw new ShapeError("hiddenStates", rule, [pixelValues.shape]);
  }
  const pixels = joined(pixelValues), grid = squareGrid(pixels, config);
  const mask = pixelAttentionMask === undefined ? undefined : joined(pixelAttentionMask);
  const seen = siglip(vision_model, pixels, {
    config: config.vision,
    loraScale,
    dropout: dropoutsWithin(dropout, "vision_config"),
    mask,
  });
  return linear(shuffled(seen, { grid, ...config }), connector.proj, { loraScale });
}

/**
 * The state that each position takes: the n-th image token of a sequence takes its n-th state. Other positions take the
 * first one, which is not used.
 *
 * @param isImage f32 [B, T]
 * @param states States of a sequence
 * @returns i32 [B, T], rows of all states; -1, which no table has, where a sequence has too many image tokens
 */
function stateIndices(isImage: Tensor, states: number): Tensor {
  const [batch] = isImage.shape;
  const first = tensor(Float32Array.from({ length: batch }, (_, b) => b * states), [batch, 1]);
  const place = subtract(cumsum(isImage, 1), 1);
  const own = where(less(place, states), add(place, first), -1);
  return integers(where(isImage, own, 0));
}

/** Refuses ids of values whose image tokens are not whole images, or more than there are. */
function checkTokens(
  inputIds: Tensor,
  { config, images, each }: {
    readonly config: SmolVlmConfig;
    readonly images: number;
    readonly each: number;
  },
): void {
  if (!isHost(inputIds)) return;
  const time = inputIds.shape[1], ids = hostValues(inputIds, "inputIds");
  for (let start = 0; start < ids.length; start += time) {
    const count = Array.from(ids.subarray(start, start + time)).filter((id) =>
      id === config.imageToken
    ).length;
    if (count % each === 0 && count <= images * each) continue;
    throw new InputError(
      `Cannot run on row ${start / time} of "inputIds" as each image takes ${
        counted(each, "token")
      } ${config.imageToken}, at most ${images * each} in all: it has ${count}`,
    );
  }
}

/** Patches on both sides of images, which must be as many, and whole squares. */
function squareGrid(pixels: Tensor, { vision, scale }: SmolVlmConfig): Grid {
  const grid = gridOf(pixels, vision), [rows, columns] = grid;
  if (rows === columns && rows % scale === 0) return grid;
  const rule =
    `images must have as many patches down as across, a multiple of scale_factor ${scale}: they have ` +
    `${rows} x ${columns}`;
  throw new ShapeError("hiddenStates", rule, [pixels.shape]);
}

/** Joins the channels of each square of patches: f32 [B, N, C] to [B, N / scale^2, C scale^2]. */
function shuffled(
  x: Tensor,
  { grid: [side], scale }: { readonly grid: Grid; readonly scale: number },
): Tensor {
  const few = side / scale, [batch, , size] = x.shape;
  const squares = reshape(x, [batch, few, scale, few, scale * size]);
  return reshape(permute(squares, [0, 1, 3, 2, 4]), [batch, few * few, scale * scale * size]);
}

const head = tokenHead<SmolVlmConfig, SmolVlmParams>({
  embedding: "model.text_model.embed_tokens",
  output: ({ lm_head, model }) => lm_head ?? model.text_model.embed_tokens,
});

/** The Idefics3 family, `"model_type": "idefics3"`. */
export const idefics3: Family<SmolVlmConfig, SmolVlmParams, ImageTextInput> = {
  name: "idefics3",
  title: "SmolVLM and Idefics3",
  parse,
  params: smolVlmModel,
  ignored: [/\.rotary_emb\.inv_freq$/, /\.embeddings\.position_ids$/],
  inputs: ["attentionMask", "segments"],
  maxLength: (config) => config.text.maxLength,
  dropouts: { "text_config.attention_dropout": 0, "vision_config.attention_dropout": 0 },
  hidden,
  heads: { Idefics3ForConditionalGeneration: head },
};

/** The SmolVLM family, `"model_type": "smolvlm"`: Idefics3 under another name. */
export const smolVlm: Family<SmolVlmConfig, SmolVlmParams, ImageTextInput> = {
  ...idefics3,
  name: "smolvlm",
  heads: { SmolVLMForConditionalGeneration: head },
};
