import { assertEquals } from "@std/assert";
import { textCache } from "../../core/plan/lower/kernel_cache.ts";

Deno.test("textCache makes equal requests once and different ones each", () => {
  const requests = [
    { a: 1 },
    { a: "1" },
    { a: NaN },
    { a: Infinity },
    { a: 0 },
    { a: -0 },
    { a: null },
    { a: [1, 2], b: "," },
    { a: [12], b: "," },
    { a: [] },
    { a: {} },
    { a: Float32Array.of(1) },
    { a: Int32Array.of(1) },
    { a: Float32Array.of(-0) },
    { a: textCache },
    { a: () => 0 },
    { a: () => 0 },
  ];
  let made = 0;
  const make = textCache().remembered((_: unknown) => made++);
  const first = requests.map(make), again = requests.map((request) => make({ ...request }));
  assertEquals(first, requests.map((_, i) => i));
  assertEquals(again, first);
});
