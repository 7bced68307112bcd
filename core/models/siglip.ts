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

import { ShapeError } from "../errors.ts";
import { attentionParams, type AttentionSpec, selfAttention } from "../nn/attention.ts";
import { embedding, embeddingParams, type EmbeddingSpec } from "../nn/embedding.ts";
import { mlp, mlpParams, type MlpSpec } from "../nn/mlp.ts";
import { layerNorm, normParams, type NormSpec } from "../nn/norm.ts";
import { type Layers, type ParamsOf, repeat, stored, storedAs } from "../nn/params.ts";
import { patches, type PatchesSpec, patchParams } from "../nn/patches.ts";
import { add } from "../ops/arithmetic.ts";
import { tensor } from "../sources.ts";
import { sameShape } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { activationOf } from "./activation.ts";
import type { ConfigReader } from "./config_reader.ts";
import { type EncoderConfig, readEncoder } from "./encoder_config.ts";
import type { HiddenOptions } from "./family.ts";
import { type ImageConfig, patchCount, readImages } from "./image_config.ts";
import { type Grid, gridPlaces, maskedPatches } from "./image_places.ts";

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
 * @param options Its configuration; `mask`: i32 [B, height, width], 1 for a pixel, 0 for padding, which stands below and to the
 * right; no padding when absent
 * @returns f32 [B, N, C]
 * @throws {ShapeError} When the images have other channels, are smaller than a patch, or the mask is not of their shape
 */
export function siglip(
  { embeddings, layers, post_layernorm }: SiglipParams,
  pixels: Tensor,
  { config, loraScale, dropout, mask }: HiddenOptions<SiglipConfig> & { readonly mask?: Tensor },
): Tensor {
  const grid = gridOf(pixels, config), { side, patchSize } = config;
  if (mask !== undefined && !sameShape(mask.shape, pixels.shape.toSpliced(1, 1))) {
    const rule = '"pixelAttentionMask" must have the shape of "pixelValues" without channels';
    throw new ShapeError("hiddenStates", rule, [mask.shape, pixels.shape]);
  }
  const activation = activationOf(config.activation);
  const masked = mask === undefined ? undefined : maskedPatches(mask, { grid, patchSize, side });
  const places = masked?.places ?? tensor(gridPlaces(grid, side), [1, grid[0] * grid[1]]);
  let x = add(patches(pixels, embeddings.patch_embedding), embedding(places, embeddings.position_embedding));
  for (let i = 0; i < config.layers; i++) {
    const { layer_norm1, self_attn, layer_norm2, mlp: feedForward } = layers[i];
    const seen = layerNorm(x, layer_norm1, config);
    const weights = dropout?.weights("attention_dropout");
    const options = { ...config, causal: false, bias: masked?.bias, loraScale, dropout: weights };
    x = add(x, selfAttention(seen, self_attn, options));
    x = add(x, mlp(layerNorm(x, layer_norm2, config), feedForward, { activation, loraScale }));
  }
  return layerNorm(x, post_layernorm, config);
}

/**
 * Rows and columns of patches of images.
 *
 * @param pixels f32 [B, channels, height, width]
 * @param config What the model takes; its size of images is that of the table of positions, others are stretched to it
 * @returns Whole patches
 * @throws {ShapeError} When the images have other channels, or are smaller than a patch
 */
export function gridOf({ shape }: Tensor, { channels, patchSize: [high, wide] }: SiglipConfig): Grid {
  const [, depth, height, width] = shape;
  if (shape.length === 4 && depth === channels && height >= high && width >= wide) {
    return [Math.floor(height / high), Math.floor(width / wide)];
  }
  const rule = `"pixelValues" must be [B, ${channels}, at least ${high}, at least ${wide}]`;
  throw new ShapeError("hiddenStates", rule, [shape]);
}
