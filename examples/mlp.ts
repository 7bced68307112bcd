/**
 * A multilayer perceptron on digits.
 *
 * @module
 */

import type { Tensor } from "@firn/train";
import { relu } from "@firn/train/ops";
import { linear, type LinearParams } from "@firn/train/nn";
import { CLASSES, PIXELS } from "./digits_data.ts";
import { type DigitModel, initialiser, stack } from "./layers.ts";

const LAYERS = 3, WIDTH = 384;

/** Hidden layers from the bottom, and the scores. */
export interface MlpParams {
  readonly layers: { readonly [index: string]: LinearParams };
  readonly head: LinearParams;
}

/** Three hidden layers of 384 units with ReLU. */
export const mlp: DigitModel<MlpParams> = {
  init(seed) {
    const make = initialiser(seed);
    // ReLU halves the mean square (He et al., arXiv 1502.01852, equation 10).
    const hidden = (width: number) => make.linear(width, WIDTH, Math.SQRT2);
    return {
      layers: stack(LAYERS, (i) => hidden(i === 0 ? PIXELS : WIDTH)),
      head: make.linear(WIDTH, CLASSES),
    };
  },
  logits({ layers, head }, images) {
    const hidden = Object.values(layers).reduce<Tensor>((x, layer) => relu(linear(x, layer)), images);
    return linear(hidden, head);
  },
  recipe: { steps: 1400, batch: 128, rate: 2e-3, tau: 8 },
};
