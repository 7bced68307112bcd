/**
 * The part of `config.json` that models of images share.
 *
 * @module
 */

import { ShapeError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import type { ConfigReader } from "./config_reader.ts";

/** Images that a model takes, and the patches that it cuts them into. */
export interface ImageConfig {
  /** Height and width in pixels. */
  readonly imageSize: readonly [height: number, width: number];
  /** Height and width of a patch in pixels. */
  readonly patchSize: readonly [height: number, width: number];
  /** Channels of a pixel. */
  readonly channels: number;
}

/**
 * Reads the sizes of images and patches.
 *
 * @param read The configuration
 * @param defaults Sizes of absent keys
 * @returns The sizes
 * @throws {InputError} When a size is neither a number nor two, or no patch fits
 */
export function readImages(
  read: ConfigReader,
  defaults: { readonly imageSize: number; readonly patchSize: number },
): ImageConfig {
  const imageSize = read.counts("image_size", defaults.imageSize);
  const patchSize = read.counts("patch_size", defaults.patchSize);
  if (patchSize.some((size, i) => size > imageSize[i])) {
    throw read.error("patch_size", `it must fit into image_size ${imageSize.join(" x ")}`, patchSize);
  }
  return { imageSize, patchSize, channels: read.count("num_channels", 3) };
}

/**
 * Counts the patches of an image.
 *
 * @param config Sizes of images and patches
 * @returns Whole patches
 */
export function patchCount({ imageSize, patchSize }: ImageConfig): number {
  return imageSize.reduce((count, size, i) => count * Math.floor(size / patchSize[i]), 1);
}

/**
 * Refuses images of another shape.
 *
 * @param config What the model takes
 * @param pixels The images
 * @throws {ShapeError} When the shape is not [B, channels, height, width] with these sizes
 */
export function checkImages({ imageSize: [height, width], channels }: ImageConfig, pixels: Tensor): void {
  const [, ...image] = pixels.shape, expected = [channels, height, width];
  if (pixels.shape.length === 4 && image.every((size, i) => size === expected[i])) return;
  throw new ShapeError("hiddenStates", `"pixelValues" must be [B, ${expected.join(", ")}]`, [pixels.shape]);
}
