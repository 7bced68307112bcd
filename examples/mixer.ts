/**
 * An MLP-mixer on digits: patches exchange what they saw through linear maps over their number.
 *
 * Source: Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601, with RMSNorm in place of
 * LayerNorm.
 *
 * Axes: B batch, T patches, C channels.
 *
 * @module
 */

import { add, mean, permute, type Tensor } from "@firn/train";
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

const PATCH = 7, TOKENS = (SIDE / PATCH) ** 2, LAYERS = 3, CHANNELS = 64;

/** A block: first the patches are mixed, then the channels. */
export interface MixerLayer {
  readonly token_norm: { readonly weight: Tensor };
  readonly tokens: TwoLayers;
  readonly channel_norm: { readonly weight: Tensor };
  readonly channels: TwoLayers;
}

/** The embedding of patches, blocks from the bottom, the last norm and the scores. */
export interface MixerParams {
  readonly patches: LinearParams;
  readonly layers: { readonly [index: string]: MixerLayer };
  readonly norm: { readonly weight: Tensor };
  readonly head: LinearParams;
}

/** Three blocks over 16 patches of 7 by 7 pixels, 64 channels. */
export const mixer: DigitModel<MixerParams> = {
  init(seed) {
    const make = initialiser(seed);
    const patches = make.linear(PATCH ** 2, CHANNELS);
    const layers = stack(LAYERS, () => ({
      token_norm: make.norm(CHANNELS),
      tokens: make.twoLayers(TOKENS, TOKENS),
      channel_norm: make.norm(CHANNELS),
      channels: make.twoLayers(CHANNELS, 2 * CHANNELS),
    }));
    return {
      patches,
      layers,
      norm: make.norm(CHANNELS),
      head: make.linear(CHANNELS, CLASSES),
    };
  },
  logits({ patches, layers, norm, head }, images) {
    let x = linear(patchesOf(images, PATCH), patches); // [B, T, C]
    for (const layer of Object.values(layers)) {
      const across = permute(normed(x, layer.token_norm), [0, 2, 1]); // [B, C, T]
      x = add(x, permute(twoLayers(across, layer.tokens), [0, 2, 1]));
      x = add(x, twoLayers(normed(x, layer.channel_norm), layer.channels));
    }
    return linear(mean(normed(x, norm), 1), head);
  },
  recipe: { steps: 700, batch: 64, rate: 4e-3, tau: 8 },
};
