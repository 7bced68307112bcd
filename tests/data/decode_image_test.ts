/**
 * Images of files as pixels.
 *
 * @module
 */

import { DataError, NotFoundError } from "@firn/train";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { decodeImage, imageOfRow, openRows } from "@firn/train/data";
import { inFolder } from "./files.ts";

const FOLDER = "tests/fixtures/images", WIDTH = 8, HEIGHT = 6;

/** What stands in the fixtures, which Pillow wrote. */
const channel = (x: number, y: number, c: number): number => Math.min(255, 20 * y + 25 * x + 30 * c);

async function decoded(name: string) {
  return await decodeImage(await Deno.readFile(`${FOLDER}/${name}`), { path: name });
}

function pixels(at: (x: number, y: number, c: number) => number): number[] {
  return Array.from({ length: 3 * WIDTH * HEIGHT }, (_, i) => {
    const pixel = Math.floor(i / 3);
    return at(pixel % WIDTH, Math.floor(pixel / WIDTH), i % 3);
  });
}

Deno.test("decodeImage gives the exact pixels of PNG files: colours, gray, with transparency left out", async () => {
  for (const name of ["color.png", "alpha.png"]) {
    const { width, height, data } = await decoded(name);
    assertEquals([width, height, [...data]], [WIDTH, HEIGHT, pixels(channel)], name);
  }
  assertEquals([...(await decoded("gray.png")).data], pixels((x, y) => channel(x, y, 0)));
});

Deno.test("decodeImage is near Pillow on JPEG files, and turns them as their EXIF says", async () => {
  const { data } = await decoded("color.jpg"), expected = pixels(channel);
  assert(data.every((value, i) => Math.abs(value - expected[i]) <= 12));
  const turned = await decoded("turned.jpg");
  assertEquals([turned.width, turned.height], [HEIGHT, WIDTH]);
  // A quarter to the right: the lower left corner comes to the upper left.
  assert(Math.abs(turned.data[0] - channel(0, HEIGHT - 1, 0)) <= 12);
});

Deno.test("imageOfRow finds the file beside the rows, and decodeImage refuses what is no image", async () => {
  await inFolder(async (folder) => {
    const lines = ["color.png", "none.png"].map((image) => JSON.stringify({ image, label: 1 })).join("\n");
    await Deno.writeTextFile(`${folder}/a.jsonl`, lines);
    await Deno.copyFile(`${FOLDER}/color.png`, `${folder}/color.png`);
    const rows = await openRows(`${folder}/a.jsonl`, { kind: "image" }), [here, missing] = await rows.read(0);
    assertEquals((await imageOfRow(here)).width, WIDTH);
    await assertRejects(() => imageOfRow(missing), NotFoundError, "none.png");
  });
  const png = await Deno.readFile(`${FOLDER}/color.png`);
  const bad = [new Uint8Array(), new Uint8Array(100), png.slice(0, 60), Uint8Array.of(0xff, 0xd8, 0xff, 0)];
  for (const bytes of bad) {
    await assertRejects(
      () => decodeImage(bytes, { path: "x.png" }),
      DataError,
      'Cannot decode "x.png" as it must be a PNG',
    );
  }
});
