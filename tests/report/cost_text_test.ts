/** Numbers before and after, as a person reads them. */

import { assertEquals } from "@std/assert";
import { bytesText, change, percent } from "@firn/train/report";

Deno.test("percent says -100 % only of what is nothing afterwards", () => {
  assertEquals([percent(655.06, 1.19), percent(1e9, 1), percent(5, 0)], ["-99.8 %", "-99.9 %", "-100 %"]);
});

Deno.test("change says a percentage where that means something, else the difference", () => {
  for (
    const [before, after, digits, text] of [
      [3.78, 3.1, 2, "3.78 → 3.10 (-18 %)"],
      [50, 50, 0, "50 → 50 (0 %)"],
      [4, 0, 1, "4.0 → 0.0 (-100 %)"],
      [1, 10, 0, "1 → 10 (+900 %)"],
      [0, 0.31, 2, "0.00 → 0.31 (+0.31)"],
      [-0.00001, 0.481, 3, "-0.000 → 0.481 (+0.481)"],
      [0.2, -0.1, 1, "0.2 → -0.1 (-0.3)"],
      [1e-6, 0.5, 1, "0.0 → 0.5 (+0.5)"],
      [NaN, 2, 0, "– → 2"],
      [2, Infinity, 0, "2 → –"],
    ] as const
  ) assertEquals(change(before, after, digits), text);
});

Deno.test("bytes are told in the largest unit of which there is one", () => {
  const sizes = [0, 1, 11_000, 2 ** 20, 3.4 * 2 ** 20, 2 ** 30, 4.45 * 2 ** 30];
  const texts = ["0 MiB", "1 KiB", "11 KiB", "1 MiB", "3 MiB", "1.00 GiB", "4.45 GiB"];
  assertEquals(sizes.map(bytesText), texts);
});
