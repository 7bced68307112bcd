/**
 * Images of rows for the example `vision`.
 *
 * @module
 */

import { DataError } from "@firn/train";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { PIXELS } from "../../examples/digits_data.ts";
import { readImageRows } from "../../examples/image_rows.ts";
import { inFolder } from "../data/files.ts";

Deno.test("readImageRows makes images of one size, and classes of their labels in the order of numbers", async () => {
  await inFolder(async (folder) => {
    for (const name of ["color.png", "turned.jpg"]) {
      await Deno.copyFile(`tests/fixtures/images/${name}`, `${folder}/${name}`);
    }
    const row = (i: number): string => i % 2 === 0 ? "color.png,10" : "turned.jpg,9";
    await Deno.writeTextFile(
      `${folder}/a.csv`,
      ["file,class", ...Array.from({ length: 10 }, (_, i) => row(i))].join("\n"),
    );
    const { train, test, labels } = await readImageRows(`${folder}/a.csv`, { image: "file", label: "class" });
    assertEquals([train.count, test.count, labels], [8, 2, ["9", "10"]]);
    assertEquals([...train.labels], [1, 0, 1, 0, 0, 1, 0, 1]);
    assertEquals(train.images.length, 8 * PIXELS);
    assertEquals(train.images.slice(0, PIXELS), train.images.slice(2 * PIXELS, 3 * PIXELS));
    // Black is (0 - 0.1307) / 0.3081; the upper left corner of the picture is nearly black, and the lower right bright.
    assert(train.images[0] < 0.1 && train.images[PIXELS - 1] > 2);
    await Deno.writeTextFile(`${folder}/b.jsonl`, '{"image":"color.png"}\n{"image":"color.png"}\n');
    await assertRejects(
      () => readImageRows(`${folder}/b.jsonl`, {}),
      DataError,
      'must be a label in "label"',
    );
  });
});
