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

import { reshape, type Tensor } from "@firn/train";
import { linear, type LinearParams } from "@firn/train/nn";
import { conv2d, maxPool2d, relu } from "@firn/train/ops";
import { CLASSES, SIDE } from "./digits_data.ts";
import { type DigitModel, initialiser, stack } from "./layers.ts";

/** Channels of the input and of each convolution, pixels on a side of their windows, and units before the scores. */
const CHANNELS = [1, 8, 16], WINDOWS = [5, 3], HIDDEN = 64;
/** Pixels on a side after the last pooling, each of which halves them. */
const LAST = SIDE / 2 ** WINDOWS.length;

/** A convolution: windows f32 [O, C, K, K] and a bias [O]. */
export interface Convolution {
  readonly weight: Tensor;
  readonly bias?: Tensor;
}

/** Convolutions from the bottom, and linear layers above them. */
export interface ConvnetParams {
  readonly layers: { readonly [index: string]: Convolution };
  readonly hidden: LinearParams;
  readonly head: LinearParams;
}

/** Two convolutions of 8 and 16 channels, and 64 units. */
export const convnet: DigitModel<ConvnetParams> = {
  init(seed) {
    const make = initialiser(seed);
    const layers = stack(WINDOWS.length, (i) => {
      const [inputs, outputs, side] = [CHANNELS[i], CHANNELS[i + 1], WINDOWS[i]];
      // ReLU halves the mean square (He et al., arXiv 1502.01852, equation 10).
      const { weight, bias } = make.linear(inputs * side ** 2, outputs, Math.SQRT2);
      return { weight: reshape(weight, [outputs, inputs, side, side]), bias };
    });
    return {
      layers,
      hidden: make.linear(CHANNELS.at(-1)! * LAST ** 2, HIDDEN, Math.SQRT2),
      head: make.linear(HIDDEN, CLASSES),
    };
  },
  logits({ layers, hidden, head }, images) {
    const [batch] = images.shape;
    let x = reshape(images, [batch, 1, SIDE, SIDE]); // [B, C, H, W]
    for (const { weight, bias } of Object.values(layers)) {
      const [, , side] = weight.shape;
      x = maxPool2d(relu(conv2d(x, weight, { bias, padding: (side - 1) / 2 })), { size: 2 });
    }
    return linear(relu(linear(reshape(x, [batch, CHANNELS.at(-1)! * LAST ** 2]), hidden)), head);
  },
  recipe: { steps: 300, batch: 64, rate: 4e-3, tau: 8 },
};
