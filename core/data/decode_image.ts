/**
 * Images of files as pixels, by what the platform brings: no decoder of its own.
 *
 * @module
 */

import { DataError, InputError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import { isAbsolute, joined, parentOf } from "../host/paths.ts";
import type { RawImage } from "./images.ts";
import type { Placed } from "./rows/open_rows.ts";

/** Bytes of a file, and pixels of an image, at most. */
const MOST_BYTES = 2 ** 28, MOST_PIXELS = 2 ** 26;

/** First bytes of the formats that are read: PNG and JPEG. */
const BEGINNINGS: readonly (readonly [type: string, bytes: readonly number[]])[] = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47]],
  ["image/jpeg", [0xff, 0xd8, 0xff]],
];

/**
 * Decodes a PNG or a JPEG. A photo is turned as its EXIF says, and transparency is left out, as Pillow's `convert("RGB")` does. The pixels of a PNG are
 * exact, those of a JPEG differ by some steps of 256 from one decoder to another.
 *
 * @param bytes The file
 * @param options `path`: its name, for errors
 * @returns Its pixels, three bytes each: red, green, blue
 * @throws {DataError} When it is neither, is damaged, or has more than 64 million pixels
 * @throws {InputError} When the runtime decodes no images, as Node
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { decodeImage, openRows } from "@firn/train/data";
 *
 * const rows = await openRows("tests/fixtures/rows/images.parquet", { kind: "image" });
 * const [{ example }] = await rows.read(0);
 * const { width, height, data } = await decodeImage(example.image as Uint8Array);
 * assertEquals([width, height, ...data], [2, 1, 255, 0, 0, 0, 0, 255]);
 * ```
 */
export async function decodeImage(
  bytes: Uint8Array,
  { path = "image" }: { readonly path?: string } = {},
): Promise<RawImage> {
  const fail = (seen: string, cause?: unknown): DataError =>
    new DataError(`Cannot decode "${path}" as it must be a PNG or a JPEG: ${seen}; get the file again`, {
      cause,
    });
  const type = BEGINNINGS.find(([, begin]) => begin.every((byte, i) => bytes[i] === byte))?.[0];
  if (type === undefined) throw fail("its first bytes are of neither");
  if (typeof createImageBitmap === "undefined") {
    throw new InputError(
      `Cannot decode "${path}" as this runtime must decode images: Node does not; give pixels, or take Deno`,
    );
  }
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(new Blob([Uint8Array.from(bytes)], { type }));
  } catch (error) {
    throw fail(`it is damaged (${(error as Error).message})`, error);
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) {
    bitmap.close();
    throw fail(`it has ${width} x ${height} pixels, more than ${MOST_PIXELS}`);
  }
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("bitmaprenderer")!;
  context.transferFromImageBitmap(bitmap);
  let blob: Blob;
  try {
    blob = await canvas.convertToBlob({ type: "image/bmp" });
  } catch (error) {
    throw fail("its channels have more than 8 bits, which this machine cannot convert", error);
  }
  const file = new Uint8Array(await blob.arrayBuffer());
  // Deno writes a BMP, whose pixels lie open; browsers cannot, and read a canvas.
  if (file[0] === 0x42 && file[1] === 0x4d) return fromBmp(file);
  return fromCanvas(await createImageBitmap(new Blob([file])));
}

/**
 * The pixels of the image of a row: its bytes, or the file that it names, beside the file of the row.
 *
 * @param row The row
 * @param options The file system
 * @returns Its pixels, three bytes each
 * @throws {NotFoundError} When there is no such file
 * @throws {DataError} When it is no PNG or JPEG
 */
export async function imageOfRow(
  { example: { image }, file }: Placed<"image">,
  { fileSystem = hostFileSystem() }: FileSystemOptions = {},
): Promise<RawImage> {
  if (typeof image !== "string") return await decodeImage(image, { path: file });
  const path = isAbsolute(image) ? image : joined(parentOf(file), image);
  return await decodeImage(await fileSystem.read(path, { limit: MOST_BYTES }), { path });
}

/** Pixels of a BMP of 8 bits with a palette, or of 24 or 32: rows of blue, green and red, from below if the height is positive. */
function fromBmp(file: Uint8Array): RawImage {
  const view = new DataView(file.buffer), start = view.getUint32(10, true), width = view.getInt32(18, true);
  const signed = view.getInt32(22, true), height = Math.abs(signed), size = view.getUint16(28, true) / 8;
  const palette = 14 + view.getUint32(14, true);
  const pitch = Math.ceil(width * size / 4) * 4, data = new Uint8Array(3 * width * height);
  for (let y = 0; y < height; y++) {
    const row = start + pitch * (signed < 0 ? y : height - 1 - y);
    for (let x = 0; x < width; x++) {
      const place = row + x * size,
        at = size === 1 ? palette + 4 * file[place] : place,
        to = 3 * (y * width + x);
      for (let c = 0; c < 3; c++) data[to + c] = file[at + 2 - c];
    }
  }
  return { data, width, height };
}

/** What a browser has in place of that. */
interface Context2d {
  drawImage(bitmap: ImageBitmap, x: number, y: number): void;
  getImageData(x: number, y: number, width: number, height: number): { readonly data: Uint8ClampedArray };
}

function fromCanvas(bitmap: ImageBitmap): RawImage {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext(
    "2d" as "bitmaprenderer",
  ) as unknown as Context2d;
  context.drawImage(bitmap, 0, 0);
  const all = context.getImageData(0, 0, width, height).data, data = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) data[3 * i + c] = all[4 * i + c];
  }
  return { data, width, height };
}
