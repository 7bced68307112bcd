/**
 * What costs are called for people.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { bytesText } from "@firn/train/report";

Deno.test("bytes are told in the largest unit of which there is one", () => {
  const sizes = [0, 1, 11_000, 2 ** 20, 3.4 * 2 ** 20, 2 ** 30, 4.45 * 2 ** 30];
  assertEquals(sizes.map(bytesText), [
    "0 MiB",
    "1 KiB",
    "11 KiB",
    "1 MiB",
    "3 MiB",
    "1.00 GiB",
    "4.45 GiB",
  ]);
});
