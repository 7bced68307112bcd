/**
 * Labelled images of rows, as small and grey as the digits that the examples know.
 *
 * @module
 */

import { DataError } from "@firn/train";
import {
  type Columns,
  imageOfRow,
  openRows,
  pixelsOf,
  type Placed,
  type RawImage,
  type Rows,
  splitRows,
} from "@firn/train/data";
import { type Digits, PIXELS, SIDE } from "./digits_data.ts";
import { locateData } from "./hub.ts";

/** What is done to each image: the pixels of digits have mean 0 and deviation 1 by these numbers. */
const PROCESSOR = {
  size: [SIDE, SIDE],
  resample: "bilinear",
  rescale: 1 / 255,
  mean: [0.1307],
  std: [0.3081],
} as const;

/**
 * Reads images and their labels. One row of five is held out.
 *
 * @param source The file of rows, with columns `image` and `label`
 * @param columns Columns by other names
 * @returns Images to train on and to test with, and the names of the classes
 * @throws {DataError} When a row has no label, or no image that can be read
 */
export async function readImageRows(
  source: string,
  columns: Columns,
): Promise<{ readonly train: Digits; readonly test: Digits; readonly labels: readonly string[] }> {
  const rows = await openRows(await locateData([source]), { kind: "image", columns });
  const split = splitRows(rows, 5),
    [train, test] = await Promise.all([split.train, split.heldOut].map(allOf));
  const labels = [...new Set([...train, ...test].map(labelOf))].sort((a, b) =>
    a.localeCompare(b, "en", { numeric: true })
  );
  return { train: await imagesOf(train, labels), test: await imagesOf(test, labels), labels };
}

async function allOf(rows: Rows<"image">): Promise<readonly Placed<"image">[]> {
  return (await Promise.all(rows.blocks.map((_, block) => rows.read(block)))).flat();
}

function labelOf({ example: { label }, file, unit, line }: Placed<"image">): string {
  if (label !== undefined) return label;
  throw new DataError(
    `Cannot use ${unit} ${line} of "${file}" as there must be a label in "label": it has none; mend it`,
  );
}

async function imagesOf(rows: readonly Placed<"image">[], labels: readonly string[]): Promise<Digits> {
  const images = new Float32Array(rows.length * PIXELS);
  for (const [i, row] of rows.entries()) {
    images.set(pixelsOf(greyOf(await imageOfRow(row)), PROCESSOR), i * PIXELS);
  }
  return { count: rows.length, images, labels: Int32Array.from(rows, (row) => labels.indexOf(labelOf(row))) };
}

/** One byte a pixel, by the weights of Pillow. */
function greyOf({ data, width, height }: RawImage): RawImage {
  const grey = Uint8Array.from({ length: width * height }, (_, i) => {
    const [red, green, blue] = data.subarray(3 * i, 3 * i + 3);
    return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16;
  });
  return { data: grey, width, height };
}
