/**
 * A convolutional net on digits: convolutions that see more and more of the image, each followed by pooling, and two linear
 * layers.
 *
 * Source: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, LeNet-5, with ReLU and the largest
 * element of each window in place of tanh and means.
 *
 * Axes: B batch, C channels, H height, W width.
 *
 * @module
 */

import { reshape } from "@firn/train";
import { linear, type LinearParams } from "@firn/train/nn";
import { conv2d, maxPool2d, relu } from "@firn/train/ops";
import { CLASSES, SIDE } from "./digits_data.ts";
import { type DigitModel, initialiser, stack } from "./layers.ts";

/** Channels of the input and of each convolution, pixels on a side of their windows, and units of the linear layer. */
const CHANNELS = [1, 8, 16], WINDOWS = [5, 3], HIDDEN = 64;
/** Pixels on a side after the last pooling, each of which halves them. */
const LAST = SIDE / 2 ** WINDOWS.length;

/** From the bottom convolutions, windows f32 [O, C, K, K] and a bias [O], and a linear layer; and the scores. */
export interface ConvnetParams {
  readonly layers: { readonly [index: string]: LinearParams };
  readonly head: LinearParams;
}

/** Two convolutions of 8 and 16 channels, and 64 units. */
export const convnet: DigitModel<ConvnetParams> = {
  init(seed) {
    const make = initialiser(seed);
    const convolutions = stack(WINDOWS.length, (i): LinearParams => {
      const [inputs, outputs, side] = [CHANNELS[i], CHANNELS[i + 1], WINDOWS[i]];
      // ReLU halves the mean square (He et al., arXiv 1502.01852, equation 10).
      const { weight, bias } = make.linear(inputs * side ** 2, outputs, Math.SQRT2);
      return { weight: reshape(weight, [outputs, inputs, side, side]), bias };
    });
    const hidden = make.linear(CHANNELS.at(-1)! * LAST ** 2, HIDDEN, Math.SQRT2);
    return {
      layers: { ...convolutions, [WINDOWS.length]: hidden },
      head: make.linear(HIDDEN, CLASSES),
    };
  },
  logits({ layers, head }, images) {
    const [batch] = images.shape, all = Object.values(layers);
    let x = reshape(images, [batch, 1, SIDE, SIDE]); // [B, C, H, W]
    for (const { weight, bias } of all.slice(0, -1)) {
      const [, , side] = weight.shape;
      x = maxPool2d(relu(conv2d(x, weight, { bias, padding: (side - 1) / 2 })), { size: 2 });
    }
    const rows = reshape(x, [batch, CHANNELS.at(-1)! * LAST ** 2]);
    return linear(relu(linear(rows, all.at(-1)!)), head);
  },
  recipe: { steps: 300, batch: 64, rate: 4e-3, tau: 9 },
};
