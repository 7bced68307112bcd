import { assertEquals } from "@std/assert";
import { gridPlaces } from "../../core/models/image_places.ts";

Deno.test("positions of patches round as transformers does", () => {
  assertEquals([...gridPlaces([3, 3], 3)], [0, 1, 2, 3, 4, 5, 6, 7, 8]);
  // NumPy's searchsorted on the same numbers in f32 gives these columns of 25 the row of the one before.
  const first = [...gridPlaces([25, 25], 25).subarray(0, 25)];
  assertEquals(first.flatMap((row, i) => row === i ? [] : [i]), [5, 9, 10, 15, 18, 20, 23]);
});
