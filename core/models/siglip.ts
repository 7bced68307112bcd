/**
 * The image tower of Idefics3 and SmolVLM: a pre-norm encoder of patches with learned positions, as in SigLIP.
 *
 * Source: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", arXiv 2303.15343; names are those of
 * `transformers`.
 *
 * Axes: B images, N patches, C channels.
 *
 * @module
 */

import { attentionParams, type AttentionSpec, selfAttention } from "../nn/attention.ts";
import { embedding, embeddingParams, type EmbeddingSpec } from "../nn/embedding.ts";
import { mlp, mlpParams, type MlpSpec } from "../nn/mlp.ts";
import { layerNorm, normParams, type NormSpec } from "../nn/norm.ts";
import { type Layers, type ParamsOf, repeat, stored, storedAs } from "../nn/params.ts";
import { patches, type PatchesSpec, patchParams } from "../nn/patches.ts";
import { add } from "../ops/arithmetic.ts";
import { tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { activationOf } from "./activation.ts";
import type { ConfigReader } from "./config_reader.ts";
import { type EncoderConfig, readEncoder } from "./encoder_config.ts";
import type { HiddenOptions } from "./family.ts";
import { checkImages, type ImageConfig, patchCount, readImages } from "./image_config.ts";

/** The values of `vision_config` that the tower depends on. */
export interface SiglipConfig extends EncoderConfig, ImageConfig {
  /** Patches on a side of an image, which is square. */
  readonly side: number;
}

/** Sizes of absent keys, as in `transformers`. */
const SIZES = { hiddenSize: 1152, intermediateSize: 3072, layers: 12, heads: 16 } as const;

/**
 * Reads the configuration of the tower.
 *
 * @internal
 */
export function readSiglip(read: ConfigReader): SiglipConfig {
  read.only("attention_dropout", 0);
  const images = readImages(read, { imageSize: 224, patchSize: 32 });
  for (
    const [key, [height, width]] of [["image_size", images.imageSize], [
      "patch_size",
      images.patchSize,
    ]] as const
  ) {
    if (height !== width) throw read.error(key, "height and width must be equal", [height, width]);
  }
  return {
    ...readEncoder(read, { eps: 1e-6, activation: "gelu_pytorch_tanh", sizes: SIZES }),
    ...images,
    side: Math.floor(images.imageSize[0] / images.patchSize[0]),
  };
}

/**
 * Declares a block.
 *
 * @internal
 */
export const siglipLayer = (c: SiglipConfig) => ({
  layer_norm1: normParams(c.hiddenSize, { bias: true }) as NormSpec,
  self_attn: storedAs(
    { o_proj: "out_proj" },
    attentionParams(c, { qkvBias: true, outBias: true }),
  ) as AttentionSpec,
  layer_norm2: normParams(c.hiddenSize, { bias: true }) as NormSpec,
  mlp: storedAs({ up_proj: "fc1", down_proj: "fc2" }, mlpParams(c, { bias: true })) as MlpSpec,
});

/**
 * Declares the tower.
 *
 * @internal
 */
export const siglipModel = (c: SiglipConfig) => ({
  embeddings: {
    patch_embedding: patchParams([c.hiddenSize, c.channels, ...c.patchSize]) as PatchesSpec,
    position_embedding: embeddingParams([patchCount(c), c.hiddenSize]) as EmbeddingSpec,
  },
  layers: stored("encoder.layers", repeat(c.layers, siglipLayer(c))) as Layers<
    ReturnType<typeof siglipLayer>
  >,
  post_layernorm: normParams(c.hiddenSize, { bias: true }) as NormSpec,
});

/** Parameters of the tower. */
export type SiglipParams = ParamsOf<typeof siglipModel>;

/**
 * Hidden states of patches.
 *
 * @param params The tower
 * @param pixels f32 [B, channels, height, width]
 * @param options Its configuration
 * @returns f32 [B, N, C]
 * @throws {ShapeError} When the images have another size than the configuration says
 */
export function siglip(
  { embeddings, layers, post_layernorm }: SiglipParams,
  pixels: Tensor,
  { config, loraScale }: HiddenOptions<SiglipConfig>,
): Tensor {
  checkImages(config, pixels);
  const activation = activationOf(config.activation);
  const places = embedding(
    tensor(positions(config.side), [1, config.side ** 2]),
    embeddings.position_embedding,
  );
  let x = add(patches(pixels, embeddings.patch_embedding), places);
  for (let i = 0; i < config.layers; i++) {
    const { layer_norm1, self_attn, layer_norm2, mlp: feedForward } = layers[i];
    const seen = layerNorm(x, layer_norm1, config);
    x = add(x, selfAttention(seen, self_attn, { ...config, causal: false, loraScale }));
    x = add(x, mlp(layerNorm(x, layer_norm2, config), feedForward, { activation, loraScale }));
  }
  return layerNorm(x, post_layernorm, config);
}

/**
 * The row of the table of positions that each patch of a square image reads. `transformers` finds it by comparing fractions
 * in f32, whose rounding gives some patches the row of a neighbour.
 *
 * @param side Patches on a side
 * @returns i32, `side * side` rows
 */
export function positions(side: number): Int32Array<ArrayBuffer> {
  const step = 1 / side, borders = Math.ceil((1 - step) / step);
  const bucket = Array.from({ length: side }, (_, i) => {
    const place = Math.min(Math.fround(i * Math.fround(step)), Math.fround(1 - 1e-6));
    return Array.from({ length: borders }, (_, b) => Math.fround(step + b * step)).filter((b) => b <= place)
      .length;
  });
  return Int32Array.from(
    { length: side * side },
    (_, i) => bucket[Math.floor(i / side)] * side + bucket[i % side],
  );
}
