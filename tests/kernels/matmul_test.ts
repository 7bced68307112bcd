import { assert } from "@std/assert";
import { chooseMatmul, matmul, type MatmulVariant } from "../../kernels/matmul.ts";
import { assertClose, blank, runKernel, testDevice, values } from "./run_kernel.ts";

const SUBGROUPS = (await testDevice()).features.has("subgroups");
/** Every variant that some product gets, and blocks for CPUs that no product divides. */
const VARIANTS: readonly MatmulVariant[] = [
  ...[64, 4096].map((n) => chooseMatmul({ batch: 1, m: n, n, k: 64 }, { software: false, subgroups: false })),
  { kind: "tiled", bm: 64, bn: 128, bk: 16, tm: 8, tn: 8 },
  { kind: "tiled", bm: 32, bn: 64, bk: 8, tm: 4, tn: 4 },
  ...(SUBGROUPS ? [false, true] : [false]).map((subgroups): MatmulVariant => ({
    kind: "direct",
    tm: 7,
    tn: 2,
    subgroups,
  })),
];
const LAYOUTS = [[false, false], [false, true], [true, false], [true, true]] as const;

/** Sizes, and whether a stack: the odd ones load single elements, the others four at once. */
const SIZES = [{ batch: 2, m: 33, n: 17, k: 21 }, { batch: 1, m: 36, n: 68, k: 20 }];

for (const variant of VARIANTS) {
  for (const { batch, m, n, k } of SIZES) {
    Deno.test(`matmul of ${batch} x ${m}x${n}x${k} equals its definition in all layouts: ${JSON.stringify(variant)}`, async () => {
      for (const [transposeA, transposeB] of LAYOUTS) {
        const a = values(batch * m * k, 1), b = values(batch * k * n, 2);
        const expected = Float64Array.from({ length: batch * m * n }, (_, at) => {
          const column = at % n, row = Math.floor(at / n) % m, stack = Math.floor(at / (m * n));
          let sum = 0;
          for (let i = 0; i < k; i++) {
            const left = transposeA ? i * m + row : row * k + i,
              right = transposeB ? column * k + i : i * n + column;
            sum += a[stack * m * k + left] * b[stack * k * n + right];
          }
          return sum;
        });
        const kernel = matmul({ batch, m, n, k, transposeA, transposeB, variant });
        const [out] = await runKernel(kernel, { inputs: [a, b], outputs: [blank(expected.length)] });
        // 21 products of numbers below one: a few units of 6e-8 times their sum.
        assertClose(out, expected, { tolerance: 5e-6, what: kernel.name });
      }
    });
  }
}

Deno.test("chooseMatmul takes larger tiles for larger products", () => {
  const kinds = new Set(VARIANTS.map((variant) => JSON.stringify(variant)));
  assert(kinds.size === VARIANTS.length, `${[...kinds]}`);
});
