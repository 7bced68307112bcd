/** Images are resized as Pillow does, and what a processor cannot do is refused by name. */

import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "@firn/train";
import { imageProcessor, pixelsOf } from "@firn/train/data";

const FILE = "preprocessor_config.json";

/** 7 by 5 pixels of three channels. */
const image = {
  data: Uint8Array.from({ length: 7 * 5 * 3 }, (_, i) => (i * 37 + i * i * 11) % 256),
  width: 7,
  height: 5,
};

/** FNV-1a of bytes. */
const hashOf = (bytes: ArrayLike<number>): number =>
  Array.from(bytes).reduce((hash, byte) => Math.imul(hash ^ byte, 16777619) >>> 0, 2166136261);

/** Filter, width, height, then the first bytes and the hash of all that Pillow 12 gives. */
const EXPECTED: readonly (readonly [number, number, number, readonly number[], number])[] = [
  [1, 4, 3, [123, 110, 126, 95, 128, 184], 826275156],
  [1, 9, 8, [0, 22, 129, 153, 61, 172], 822427010],
  [2, 4, 3, [122, 114, 134, 105, 123, 180], 3055901798],
  [2, 9, 8, [0, 48, 118, 140, 61, 175], 1599812979],
  [3, 4, 3, [122, 112, 130, 100, 126, 183], 2671357481],
  [3, 9, 8, [0, 32, 122, 152, 57, 176], 2588193856],
];

for (const [resample, width, height, first, hash] of EXPECTED) {
  Deno.test(`pixelsOf gives Pillow's bytes: filter ${resample}, 7 x 5 to ${width} x ${height}`, () => {
    const json = { size: { height, width }, resample, do_rescale: false, do_normalize: false };
    const planes = pixelsOf(image, imageProcessor(json, FILE));
    const pixels = Array.from(
      { length: planes.length },
      (_, i) => planes[i % 3 * width * height + Math.floor(i / 3)],
    );
    assertEquals(pixels.slice(0, 6), [...first]);
    assertEquals(hashOf(pixels), hash);
  });
}

Deno.test("pixelsOf scales bytes, then shifts and divides each channel by its own numbers", () => {
  const json = { do_resize: false, image_mean: [0.1, 0.2, 0.3], image_std: [1, 2, 4] };
  const planes = pixelsOf(
    { data: new Uint8Array([0, 51, 255, 102, 0, 204]), width: 2, height: 1 },
    imageProcessor(json, FILE),
  );
  const expected = [-0.1, 0.4 - 0.1, (0.2 - 0.2) / 2, -0.1, (1 - 0.3) / 4, (0.8 - 0.3) / 4];
  assertEquals([...planes].map((x) => x.toFixed(6)), expected.map((x) => x.toFixed(6)));
});

Deno.test("imageProcessor and pixelsOf refuse by name what they would get wrong", () => {
  for (
    const [json, message] of [
      [{ do_center_crop: true }, '"do_center_crop" of "preprocessor_config.json" as it must be false'],
      [{ do_image_splitting: true }, '"do_image_splitting"'],
      [
        { size: { shortest_edge: 224 } },
        '"size" of "preprocessor_config.json" as it must have "height" and "width"',
      ],
      [{ resample: 5 }, '"resample" of "preprocessor_config.json" as it must be 1, 2 or 3: 5'],
      [
        { image_mean: [0.5], image_std: [0.5, 0.5] },
        '"image_std" of "preprocessor_config.json" as it must be as long',
      ],
    ] as const
  ) {
    assertThrows(() => imageProcessor(json, FILE), InputError, message);
  }
  assertThrows(
    () => pixelsOf({ data: new Uint8Array(8), width: 2, height: 1 }, imageProcessor({}, FILE)),
    InputError,
    "Cannot use an image of 2 x 1 as it must have 3 bytes a pixel: it has 4",
  );
});
