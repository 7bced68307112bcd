/**
 * Products whose operands and results are stored as bf16 and f16.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { fromBf16, fromF16, toBf16, toF16 } from "../../core/data/floats.ts";
import { type MatmulVariant, productKey } from "../../kernels/matmul/types.ts";
import { identityEpilogue } from "../../kernels/matmul/frame.ts";
import { compute, computeGroup, definition, SIZES, tiles } from "./matmul_reference.ts";
import { assertClose, type Data, packBf16, testSubgroups, values } from "./run_kernel.ts";
import { ALL_CASES } from "../reference/all_cases.ts";

const { subgroups: SUBGROUPS } = await testSubgroups();

/** Every tile, with whole and shared sums in turn, and blocks. */
const VARIANTS: readonly MatmulVariant[] = [
  ...tiles(1).map((whole, i) => i % 2 === 0 ? tiles(3)[i] : whole),
  { kind: "direct", tm: 7, tn: 2, subgroups: SUBGROUPS },
  { kind: "direct", tm: 7, tn: 2, subgroups: false },
];

for (const [i, variant] of VARIANTS.entries()) {
  Deno.test(`matmul reads B as bf16 with the bits of the same values as f32: ${JSON.stringify(variant)}`, async () => {
    for (const [l, transposeB] of [false, true].entries()) {
      for (const { batch, m, n, k } of variant.kind === "tiled" ? [SIZES[(i + l) % 2]] : SIZES) {
        const codes = toBf16(values(batch * k * n, 2)), a = values(batch * m * k, 1), b = fromBf16(codes);
        const product = { batch, m, n, k, transposeA: false, transposeB, variant } as const;
        const stored = { ...product, storedB: "bf16" } as const, what = productKey(stored);
        const out = await compute(stored, { a, b: packBf16(codes) });
        assertClose(out, definition(product, { a, b }), { tolerance: 1e-5, what });
        assertEquals(out, await compute(product, { a, b }), what);
      }
    }
  });
}

Deno.test("productKey tells products apart by how B is stored", () => {
  const product = { batch: 1, m: 4, n: 8, k: 16, transposeA: false, transposeB: true, strideA: 20 };
  assertEquals(
    [
      productKey(product),
      productKey({ ...product, storedB: "f32" }),
      productKey({ ...product, storedB: "bf16" }),
    ],
    ["4x8x16 NT 20", "4x8x16 NT 20", "4x8x16 NT 20 bf16"],
  );
});

Deno.test("matmul reads B of a group of products as bf16", async () => {
  const [m, n, k] = [20, 24, 64], variant = tiles(1)[2];
  const as = [1, 2].map((seed) => values(m * k, seed));
  const codes = [3, 4].map((seed) => toBf16(values(n * k, seed)));
  const product = { batch: 1, m, n, k, transposeA: false, transposeB: true, storedB: "bf16" } as const;
  const seen = await computeGroup(
    { ...product, group: { count: 2, as: "separate" }, variant },
    [...as, ...codes.map(packBf16)],
  );
  const expected = as.map((a, i) => definition(product, { a, b: fromBf16(codes[i]) }));
  expected.forEach((one, i) => assertClose(seen[i], one, { tolerance: 1e-5, what: `product ${i}` }));
});

/** Each kind of operand, its values as arrays of that kind and as f32. */
const STORED = {
  f32: (x: Float32Array<ArrayBuffer>) => [x, x],
  f16: (x: Float32Array<ArrayBuffer>) => [toF16(x), fromF16(toF16(x))],
  bf16: (x: Float32Array<ArrayBuffer>) => [packBf16(toBf16(x)), fromBf16(toBf16(x))],
  // What a file stores as f16, in words.
  half: (x: Float32Array<ArrayBuffer>) => [packBf16(toF16(x)), fromF16(toF16(x))],
} as const satisfies Record<
  string,
  (x: Float32Array<ArrayBuffer>) => readonly [Data, Float32Array<ArrayBuffer>]
>;

const PAIRS = [["f16", "f16"], ["f32", "f16"], ["f16", "f32"], ["f16", "bf16"], ["f16", "half"]] as const;
/** Layouts of the products of a step: forward, by what is read, and by weights. */
const OF_A_STEP = [[false, true], [false, false], [true, false]] as const;

for (const [i, variant] of VARIANTS.entries()) {
  Deno.test(`matmul reads and writes f16 and adds in f32: ${JSON.stringify(variant)}`, async () => {
    for (const [p, [storedA, storedB]] of PAIRS.entries()) {
      // Weights are what is bf16, and those are no gradients. Each compiles for a second: layouts take turns.
      const layouts = storedB === "bf16" || storedB === "half" ? 2 : 3;
      const turns = variant.kind === "tiled" && !ALL_CASES;
      for (const l of turns ? [(i + p) % layouts] : Array(layouts).keys()) {
        const [transposeA, transposeB] = OF_A_STEP[l];
        const { batch, m, n, k } = SIZES[(i + p + l) % 2];
        const [a, left] = STORED[storedA](values(batch * m * k, 1));
        const [b, right] = STORED[storedB](values(batch * k * n, 2));
        const sizes = { batch, m, n, k, transposeA, transposeB, variant, storedA, storedB };
        const what = productKey(sizes), half = storedA === storedB;
        const seen = await compute({ ...sizes, epilogue: identityEpilogue([batch * m, n], half) }, { a, b });
        const exact = definition(sizes, { a: left, b: right });
        // 53 products of numbers below one; as f16 a sum below 16 is off by 2^-8 at most.
        assertClose(seen, exact, { tolerance: half ? 2 ** -8 : 1e-5, what });
        if (half) assertClose(seen, fromF16(toF16(Float32Array.from(exact))), { tolerance: 2 ** -7, what });
      }
    }
  });
}

Deno.test("productKey names how A is stored too, where that is not f32", () => {
  const product = { batch: 1, m: 4, n: 8, k: 16, transposeA: false, transposeB: true };
  assertEquals(
    ([["f32", "f16"], ["f16", "f32"], ["f16", "bf16"]] as const).map(([storedA, storedB]) =>
      productKey({ ...product, storedA, storedB })
    ),
    ["4x8x16 NT f16", "4x8x16 NT f16 f32", "4x8x16 NT f16 bf16"],
  );
});
