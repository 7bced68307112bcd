/**
 * A vision transformer on digits.
 *
 * Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv 2010.11929, with RMSNorm in place of LayerNorm, and
 * the mean over patches in place of a class token.
 *
 * Axes: B batch, T patches, C channels, H heads, D head size.
 *
 * @module
 */

import { add, mean, reshape, type Tensor } from "@firn/train";
import { attention } from "@firn/train/ops";
import { linear, type LinearParams } from "@firn/train/nn";
import { CLASSES, SIDE } from "./digits_data.ts";
import {
  type DigitModel,
  initialiser,
  normed,
  patchesOf,
  stack,
  type TwoLayers,
  twoLayers,
} from "./layers.ts";

const PATCH = 7, TOKENS = (SIDE / PATCH) ** 2, LAYERS = 3, CHANNELS = 64, HEADS = 4;

/** A block: attention between the patches, then the MLP. */
export interface VitLayer {
  readonly attention_norm: { readonly weight: Tensor };
  readonly query: LinearParams;
  readonly key: LinearParams;
  readonly value: LinearParams;
  readonly out: LinearParams;
  readonly mlp_norm: { readonly weight: Tensor };
  readonly mlp: TwoLayers;
}

/** The embedding of patches and of their positions [T, C], blocks from the bottom, the last norm and the scores. */
export interface VitParams {
  readonly patches: LinearParams;
  readonly positions: { readonly weight: Tensor };
  readonly layers: { readonly [index: string]: VitLayer };
  readonly norm: { readonly weight: Tensor };
  readonly head: LinearParams;
}

/** Three blocks over 16 patches of 7 by 7 pixels, 64 channels in 4 heads. */
export const vit: DigitModel<VitParams> = {
  init(seed) {
    const make = initialiser(seed);
    const square = () => make.linear(CHANNELS, CHANNELS);
    return {
      patches: make.linear(PATCH ** 2, CHANNELS),
      positions: { weight: make.normal([TOKENS, CHANNELS], 0.5) },
      layers: stack(LAYERS, () => ({
        attention_norm: make.norm(CHANNELS),
        query: square(),
        key: square(),
        value: square(),
        out: square(),
        mlp_norm: make.norm(CHANNELS),
        mlp: make.twoLayers(CHANNELS, 2 * CHANNELS),
      })),
      norm: make.norm(CHANNELS),
      head: make.linear(CHANNELS, CLASSES),
    };
  },
  logits({ patches, positions, layers, norm, head }, images) {
    let x = add(linear(patchesOf(images, PATCH), patches), positions.weight); // [B, T, C]
    for (const layer of Object.values(layers)) {
      const y = normed(x, layer.attention_norm);
      const heads = (params: LinearParams): Tensor =>
        reshape(linear(y, params), [...x.shape.slice(0, 2), HEADS, CHANNELS / HEADS]); // [B, T, H, D]
      const seen = attention(heads(layer.query), {
        k: heads(layer.key),
        v: heads(layer.value),
        causal: false,
      });
      x = add(x, linear(reshape(seen, x.shape), layer.out));
      x = add(x, twoLayers(normed(x, layer.mlp_norm), layer.mlp));
    }
    return linear(mean(normed(x, norm), 1), head);
  },
  recipe: { steps: 600, batch: 64, rate: 4e-3, tau: 8 },
};
