/**
 * Raw pixels as the input of models of images.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { InputError } from "../errors.ts";
import { type ConfigReader, configReader } from "../models/config_reader.ts";

/** What `preprocessor_config.json` does to an image. */
export interface ImageProcessor {
  /** Height and width that images are resized to; null where they keep theirs. */
  readonly size: readonly [height: number, width: number] | null;
  /** How they are resized. */
  readonly resample: Resample;
  /** Factor of the bytes. */
  readonly rescale: number;
  /** Subtracted from each channel after that. */
  readonly mean: readonly number[];
  /** Divides each channel after that. */
  readonly std: readonly number[];
}

/** Filters of Pillow. */
export type Resample = "lanczos" | "bilinear" | "bicubic";

/** An image in memory. */
export interface RawImage {
  /** Bytes row by row, the channels of a pixel side by side. */
  readonly data: Uint8Array | Uint8ClampedArray;
  /** Pixels of a row. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
}

/** Filters by their number in `resample`; 0, which takes the nearest pixel, is not read. */
const RESAMPLES: readonly (Resample | undefined)[] = [undefined, "lanczos", "bilinear", "bicubic"];

/** Steps of other processors, which would change the pixels. */
const OFF: readonly string[] = ["do_center_crop", "do_image_splitting", "do_pad", "do_flip_channel_order"];

/**
 * Reads `preprocessor_config.json`.
 *
 * @param json Its content
 * @param file Its path, for errors
 * @returns What is done to an image
 * @throws {InputError} When a value is of the wrong kind, or asks for a step that is not supported
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { imageProcessor, pixelsOf } from "@firn/train/data";
 *
 * const json = { size: { height: 1, width: 1 }, image_mean: [0.5], image_std: [0.5], resample: 2 };
 * const processor = imageProcessor(json, "preprocessor_config.json");
 * const image = { data: new Uint8Array([0, 255]), width: 2, height: 1 };
 * // The mean of both pixels is 127.5, which Pillow rounds to 128.
 * assertEquals(pixelsOf(image, processor), Float32Array.of((128 / 255 - 0.5) / 0.5));
 * ```
 */
export function imageProcessor(json: Readonly<Record<string, unknown>>, file: string): ImageProcessor {
  const read = configReader(json, file);
  for (const key of OFF) read.only(key, false);
  const rescales = read.boolean("do_rescale", true), normalizes = read.boolean("do_normalize", true);
  const number = read.count("resample", 2), resample = RESAMPLES[number];
  if (resample === undefined) throw read.error("resample", "it must be 1, 2 or 3", number);
  const mean = normalizes ? read.numbers("image_mean") ?? [0.5, 0.5, 0.5] : [0];
  const std = normalizes ? read.numbers("image_std") ?? [0.5, 0.5, 0.5] : [1];
  if (mean.length !== std.length) throw read.error("image_std", "it must be as long as image_mean", std);
  if (std.some((s) => !(s > 0))) throw read.error("image_std", "its numbers must be above 0", std);
  return {
    size: read.boolean("do_resize", true) ? sizeIn(read, json.size) : null,
    resample,
    rescale: rescales ? read.number("rescale_factor", 1 / 255) : 1,
    mean,
    std,
  };
}

function sizeIn(read: ConfigReader, size: unknown): readonly [number, number] {
  if (typeof size === "number") return read.counts("size");
  if (size === undefined) return [224, 224];
  const { height, width, ...others } = read.record("size")!;
  if (Object.keys(others).length > 0 || height === undefined || width === undefined) {
    throw read.error("size", 'it must have "height" and "width" alone', size);
  }
  return [read.sub("size").count("height"), read.sub("size").count("width")];
}

/**
 * Resizes an image as Pillow does, and scales and shifts its channels.
 *
 * @param image The image
 * @param processor What is done to it
 * @returns f32 [channels, height, width], row-major
 * @throws {InputError} When the bytes are not whole pixels of as many channels as the processor has
 */
export function pixelsOf(
  { data, width, height }: RawImage,
  processor: ImageProcessor,
): Float32Array<ArrayBuffer> {
  const { size, resample, rescale, mean, std } = processor, channels = data.length / (width * height);
  if (!Number.isInteger(channels) || channels < 1 || mean.length !== 1 && channels !== mean.length) {
    throw new InputError(
      `Cannot use an image of ${width} x ${height} as it must have ${
        counted(mean.length, "byte")
      } a pixel: it has ${channels}`,
    );
  }
  const [high, wide] = size ?? [height, width];
  const columns = resized(data, { count: height, from: width, to: wide, step: channels, resample });
  const pixels = resized(columns, { count: 1, from: height, to: high, step: wide * channels, resample });
  const result = new Float32Array(channels * high * wide);
  for (let c = 0; c < channels; c++) {
    const [m, s] = mean.length === 1 ? [mean[0], std[0]] : [mean[c], std[c]];
    for (let i = 0; i < high * wide; i++) {
      result[c * high * wide + i] = (pixels[i * channels + c] * rescale - m) / s;
    }
  }
  return result;
}

const sinc = (x: number): number => x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);

/** Radius and weights of filters. */
const FILTERS: { readonly [name in Resample]: readonly [radius: number, weight: (x: number) => number] } = {
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => {
    const d = Math.abs(x), a = -0.5;
    return d < 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
  }],
  lanczos: [3, (x) => Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0],
};

/** Bits of Pillow's weights behind the point. */
const UNIT = 2 ** 22;

/** Resizes one axis: `count` rows of `from` items of `step` bytes. Rounds to bytes as Pillow does. */
function resized(
  data: Uint8Array | Uint8ClampedArray,
  { count, from, to, step, resample }: {
    readonly count: number;
    readonly from: number;
    readonly to: number;
    readonly step: number;
    readonly resample: Resample;
  },
): Uint8Array | Uint8ClampedArray {
  if (from === to) return data;
  const [radius, weight] = FILTERS[resample], scale = from / to, wide = Math.max(1, scale);
  const result = new Uint8Array(count * to * step);
  for (let t = 0; t < to; t++) {
    const centre = (t + 0.5) * scale, reach = radius * wide;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(from, Math.trunc(centre + reach + 0.5));
    const raw = Array.from({ length: end - first }, (_, i) => weight((first + i - centre + 0.5) / wide));
    const sum = raw.reduce((a, b) => a + b, 0);
    const weights = raw.map((w) => Math.trunc(w / sum * UNIT + (w < 0 ? -0.5 : 0.5)));
    for (let row = 0; row < count; row++) {
      for (let s = 0; s < step; s++) {
        let total = UNIT / 2;
        for (let i = 0; i < weights.length; i++) {
          total += weights[i] * data[(row * from + first + i) * step + s];
        }
        result[(row * to + t) * step + s] = Math.min(255, Math.max(0, Math.floor(total / UNIT)));
      }
    }
  }
  return result;
}
