import { assertThrows } from "@std/assert";
import { fill, InputError } from "@firn/train";
import { add, gelu, matmul } from "@firn/train/ops";
import { checkOps, type OpCase } from "../reference/check_ops.ts";
import { map, matmul as reference } from "../reference/ops.ts";
import type { Values } from "../reference/values.ts";

// The last is deep enough for several workgroups to share its sums.
const SIZES = [[1, 1, 1], [7, 5, 3], [33, 17, 65], [8, 12, 16], [3, 5, 301]] as const;
const LAYOUTS = [
  { name: "NN", transposeA: false, transposeB: false },
  { name: "NT", transposeA: false, transposeB: true },
  { name: "TN", transposeA: true, transposeB: false },
];

checkOps([
  ...SIZES.flatMap(([m, n, k]) =>
    LAYOUTS.map(({ name, ...layout }): OpCase => ({
      name: `matmul ${name} ${m}x${n}x${k}`,
      inputs: [{ shape: layout.transposeA ? [k, m] : [m, k] }, {
        shape: layout.transposeB ? [n, k] : [k, n],
      }],
      op: (a, b) => matmul(a, b, layout),
      reference: (a, b) => reference(a, b, layout),
    }))
  ),
  {
    name: "matmul TT of a stack",
    inputs: [{ shape: [3, 4, 5] }, { shape: [3, 6, 4] }],
    op: (a, b) => matmul(a, b, { transposeA: true, transposeB: true }),
    reference: (a, b) => reference(a, b, { transposeA: true, transposeB: true }),
  },
  {
    name: "matmul of stacks that broadcast on both sides",
    inputs: [{ shape: [2, 1, 3, 5] }, { shape: [3, 5, 2] }],
    op: (a, b) => matmul(a, b),
    reference: (a, b) => {
      const stack = (x: Values, [m, n]: readonly number[]): Values =>
        map((p) => p, x, { shape: [2, 3, m, n], data: new Float64Array(6 * m * n) });
      return reference(stack(a, [3, 5]), stack(b, [5, 2]));
    },
  },
  ...[6, 300].map((k): OpCase => ({
    name: `matmul of depth ${k} with what follows fused into it`,
    inputs: [{ shape: [7, k] }, { shape: [5, k] }, { shape: [5] }, { shape: [7, 5] }],
    op: (x, w, b, rest) => add(rest, gelu(add(matmul(x, w, { transposeB: true }), b))),
    reference: (x, w, b, rest) =>
      map(
        (y, bias, r) => {
          const z = y + bias;
          return r + 0.5 * z * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z ** 3)));
        },
        reference(x, w, { transposeB: true }),
        b,
        rest,
      ),
  })),
]);

Deno.test("matmul names both shapes when inner sizes differ", () => {
  assertThrows(
    () => matmul(fill(1, [2, 3]), fill(1, [4, 5])),
    InputError,
    'Cannot apply "matmul" as inner sizes 3 and 4 must be equal: got [2, 3] and [4, 5]',
  );
});
