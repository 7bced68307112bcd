import { assertThrows } from "@std/assert";
import { fill, InputError } from "@firn/train";
import { binaryCrossEntropy, meanSquaredError } from "@firn/train/ops";
import { checkOps } from "../reference/check_ops.ts";
import { fold, map, total } from "../reference/ops.ts";
import type { Values } from "../reference/values.ts";

const average = (x: Values): Values =>
  fold(x, { axes: x.shape.map((_, d) => d), join: (parts) => total(parts) / parts.length });

checkOps([
  {
    name: "meanSquaredError",
    inputs: [{ shape: [3, 5] }, { shape: [3, 5] }],
    op: meanSquaredError,
    reference: (x, y) => average(map((a, b) => (a - b) ** 2, x, y)),
  },
  {
    name: "binaryCrossEntropy",
    inputs: [{ shape: [7], low: -20, high: 20 }, { shape: [7], low: 0, high: 1 }],
    op: binaryCrossEntropy,
    reference: (x, y) => {
      const log = (a: number): number => Math.log(1 / (1 + Math.exp(-a)));
      return average(map((a, p) => -p * log(a) - (1 - p) * log(-a), x, y));
    },
  },
]);

Deno.test("losses of pairs refuse shapes that would broadcast", () => {
  for (const loss of [meanSquaredError, binaryCrossEntropy]) {
    assertThrows(
      () => loss(fill(1, [4]), fill(1, [4, 1])),
      InputError,
      "must have one shape: got [4] and [4, 1]",
    );
  }
});
