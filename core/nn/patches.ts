/**
 * Images as sequences of patches.
 *
 * Axes: B batch, N patches, C channels.
 *
 * @module
 */

import { permute, reshape, slice } from "../ops/movement.ts";
import type { Tensor } from "../tensor.ts";
import { linear } from "./linear.ts";
import { normal, type ParamSpec, zeros } from "./params.ts";

/** A linear layer on patches, stored as a convolution whose step is its kernel. */
export interface Patches<T> {
  /** f32 [C, channels, height, width]. */
  readonly weight: T;
  /** f32 [C]. */
  readonly bias: T;
}

/** Declaration of a linear layer on patches. */
export type PatchesSpec = Patches<ParamSpec>;

/**
 * Declares a linear layer on patches.
 *
 * @param sizes Channels of output and input, height and width of a patch in pixels
 * @returns The declaration
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { patchParams } from "@firn/train/nn";
 *
 * assertEquals(patchParams([8, 3, 4, 4]).bias.shape, [8]);
 * ```
 */
export function patchParams(
  sizes: readonly [out: number, channels: number, height: number, width: number],
): PatchesSpec {
  return { weight: normal(sizes), bias: zeros([sizes[0]]) };
}

/**
 * Cuts images into patches and applies a linear layer to each.
 *
 * Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv 2010.11929, equation 1.
 *
 * @param pixels f32 [B, channels, height, width]; rows and columns past the last whole patch are left out
 * @param params The layer
 * @returns f32 [B, N, C], patches row by row
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { patches } from "@firn/train/nn";
 *
 * await using gpu = await openGpu();
 * const image = tensor([1, 2, 3, 4, 5, 6, 7, 8], [1, 1, 2, 4]);
 * const sums = patches(image, { weight: tensor([1, 1, 1, 1], [1, 1, 2, 2]), bias: tensor([0]) });
 * assertEquals([...await read(gpu, sums)], [1 + 2 + 5 + 6, 3 + 4 + 7 + 8]);
 * ```
 */
export function patches(pixels: Tensor, { weight, bias }: Patches<Tensor>): Tensor {
  const [batch, channels, height, width] = pixels.shape, [out, , high, wide] = weight.shape;
  const rows = Math.floor(height / high), columns = Math.floor(width / wide);
  const whole = rows * high === height && columns * wide === width
    ? pixels
    : slice(pixels, { starts: [0, 0, 0, 0], sizes: [batch, channels, rows * high, columns * wide] });
  const cut = permute(reshape(whole, [batch, channels, rows, high, columns, wide]), [0, 2, 4, 1, 3, 5]);
  const size = channels * high * wide;
  return linear(reshape(cut, [batch, rows * columns, size]), { weight: reshape(weight, [out, size]), bias });
}
