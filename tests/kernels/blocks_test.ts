/**
 * Kernels that read int8 and nf4, beside the same values as f32.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { fromBlocks, toBlocks } from "../../core/data/blocks.ts";
import { toF16 } from "../../core/data/floats.ts";
import { dequantize } from "../../kernels/dequantize.ts";
import { embedding } from "../../kernels/embedding.ts";
import { type MatmulVariant, productKey } from "../../kernels/matmul/types.ts";
import { ALL_CASES } from "../reference/all_cases.ts";
import { compute, computeGroup, definition, tiles } from "./matmul_reference.ts";
import { assertClose, blank, runKernel, testSubgroups, values } from "./run_kernel.ts";

const { subgroups: SUBGROUPS } = await testSubgroups();
const STORED = ["int8", "nf4"] as const;

/** Rows as words, and the values that these stand for. */
function blocksOf(
  stored: "int8" | "nf4",
  { rows, width, seed }: { rows: number; width: number; seed: number },
) {
  const words = toBlocks(values(rows * width, seed), { stored, width });
  return { words, wide: fromBlocks(words, { stored, width }) };
}

/** A block ends amid a row, or a row is one; rows of 70 and 135 take blocks that are not whole, and odd places of a quad. */
const SIZES = [{ batch: 1, m: 33, n: 70, k: 135 }, { batch: 2, m: 5, n: 64, k: 96 }];

const VARIANTS: readonly MatmulVariant[] = [
  ...tiles(1).map((whole, i) => i % 2 === 0 ? tiles(3)[i] : whole),
  { kind: "direct", tm: 7, tn: 2, subgroups: SUBGROUPS },
  { kind: "direct", tm: 7, tn: 2, subgroups: false },
];

for (const [i, variant] of VARIANTS.entries()) {
  Deno.test(`matmul reads B as int8 and nf4, in both layouts: ${JSON.stringify(variant)}`, async () => {
    // Each compiles for a second: types, layouts and sizes take turns.
    const all = variant.kind === "direct" || ALL_CASES;
    for (const [s, stored] of STORED.entries()) {
      if (!all && s !== i % 2) continue;
      for (const l of all ? [0, 1] : [(i >> 1) % 2]) {
        const { batch, m, n, k } = SIZES[(i + s + l) % 2], transposeB = l === 1;
        const [rows, width] = transposeB ? [batch * n, k] : [batch * k, n];
        const { words, wide } = blocksOf(stored, { rows, width, seed: 2 }), a = values(batch * m * k, 1);
        const product = { batch, m, n, k, transposeA: false, transposeB, variant, storedB: stored };
        const out = await compute(product, { a, b: words });
        assertClose(out, definition(product, { a, b: wide }), { tolerance: 2e-5, what: productKey(product) });
      }
    }
  });
}

Deno.test("matmul reads int8 in a group of products, apart and summed, and beside f16", async () => {
  const [m, n, k] = [20, 24, 64], variant = tiles(1)[2];
  const as = [1, 2].map((seed) => values(m * k, seed));
  const bs = [3, 4].map((seed) => blocksOf("int8", { rows: n, width: k, seed }));
  const product = {
    batch: 1,
    m,
    n,
    k,
    transposeA: false,
    transposeB: true,
    storedB: "int8",
    variant,
  } as const;
  const expected = as.map((a, i) => definition(product, { a, b: bs[i].wide }));
  const inputs = [...as, ...bs.map(({ words }) => words)];
  const apart = await computeGroup({ ...product, group: { count: 2, as: "separate" } }, inputs);
  expected.forEach((one, i) => assertClose(apart[i], one, { tolerance: 2e-5, what: `product ${i}` }));
  const [sum] = await computeGroup({ ...product, group: { count: 2, as: "summed" } }, inputs);
  assertClose(sum, expected[0].map((x, i) => x + expected[1][i]), { tolerance: 4e-5, what: "sum" });
  const half = await compute({ ...product, storedA: "f16" }, { a: toF16(as[0]), b: bs[0].words });
  assertClose(half, expected[0], { tolerance: 1e-2, what: "beside f16" });
});

Deno.test("embedding and dequantize compute the values that the host does", async () => {
  for (const stored of STORED) {
    // 32 768 elements: more scales than share one.
    for (const { rows, width } of [{ rows: 3, width: 70 }, { rows: 2, width: 16_452 }]) {
      const { words, wide } = blocksOf(stored, { rows, width, seed: 5 }), what = `${stored} ${width}`;
      const [all] = await runKernel(dequantize({ rows, width, stored }), {
        inputs: [words],
        outputs: [blank(rows * width)],
      });
      assertClose(all, Float64Array.from(wide), { tolerance: 2e-7, what });
      const ids = new Int32Array([1, rows, 0]);
      const [looked] = await runKernel(embedding({ rows: 3, vocab: rows, width, stored }), {
        inputs: [words, ids],
        outputs: [blank(3 * width)],
      });
      const seen = [1, 0].flatMap((id) => [...all.subarray(id * width, (id + 1) * width)]);
      assertEquals([...looked.subarray(0, width), ...looked.subarray(2 * width)], seen, what);
    }
  }
});
