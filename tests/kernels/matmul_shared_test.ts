/**
 * Split-K products, and groups of products in one launch.
 *
 * @module
 */

import { assert } from "@std/assert";
import { canGroup } from "../../kernels/matmul/matmul.ts";
import { type MatmulVariant, productKey } from "../../kernels/matmul/types.ts";
import { MATMUL_SPLITS } from "../../kernels/matmul/predict.ts";
import { isVariant, MATMUL_TILES } from "../../kernels/matmul/variants.ts";
import { compute, computeGroup, definition, LAYOUTS, tiles } from "./matmul_reference.ts";
import { assertClose, values } from "./run_kernel.ts";
import { ALL_CASES } from "../reference/all_cases.ts";

/** GPUs of much workgroup memory and of little. */
const GPUS = [49152, 32768].map((workgroupBytes) => ({ software: false, subgroups: true, workgroupBytes }));

/** Long enough for sixteen workgroups, and of a shape that every tile may have: single elements, and quads. */
const LONG = [{ batch: 2, m: 33, n: 17, k: 1031 }, { batch: 1, m: 28, n: 132, k: 1028 }];

/** Both operands and the product of a size and a layout. */
function example(size: number, layout: number) {
  const [transposeA, transposeB] = LAYOUTS[layout], { batch, m, n, k } = LONG[size];
  const product = { batch, m, n, k, transposeA, transposeB };
  const a = values(batch * m * k, 1), b = values(batch * k * n, 2);
  return { product, a, b, expected: definition(product, { a, b }) };
}

const known = new Map<string, ReturnType<typeof example>>();
const exampleOf = (size: number, layout: number): ReturnType<typeof example> => {
  const key = `${size} ${layout}`, made = known.get(key) ?? example(size, layout);
  known.set(key, made);
  return made;
};

for (const [i, { deep = false }] of MATMUL_TILES.entries()) {
  const { bm, bn, bk } = MATMUL_TILES[i];
  Deno.test(`matmul equals its definition however many workgroups share its sums: ${bm}x${bn}x${bk}`, async () => {
    const layouts = [...LAYOUTS.keys()].filter((layout) => !(deep && LAYOUTS[layout][0]));
    for (const [s, split] of MATMUL_SPLITS.entries()) {
      // What a layout loads does not depend on how many share it: all tiles together show every pair.
      for (const layout of ALL_CASES ? layouts : [layouts[(s + i) % layouts.length]]) {
        const { product, a, b, expected } = exampleOf((s + (s >> 2)) % 2, layout);
        const variant = tiles(split)[i];
        const chosen = GPUS.some((options) => isVariant(variant, { sizes: product, options }));
        assert(chosen, `the tuner may choose ${JSON.stringify(variant)}`);
        const out = await compute({ ...product, variant }, { a, b });
        // Sums of a thousand such products stay below 64, where each step rounds by 2^-19 at most, and most of that cancels.
        assertClose(out, expected, { tolerance: 2e-4, what: `${productKey(product)} split ${split}` });
      }
    }
  });
}

/** Layouts, and the operand that products share in each: forward, by weights, by what is read, and one more. */
const SEVERAL = [[false, true, "a"], [true, false, "b"], [false, false, undefined], [
  true,
  true,
  undefined,
]] as const;

/** Checks a group of products against what each is alone. */
async function checkGroup(
  { layout, k, variants }: {
    readonly layout: (typeof SEVERAL)[number];
    readonly k: number;
    readonly variants: { readonly [way in "separate" | "summed"]: readonly MatmulVariant[] };
  },
): Promise<void> {
  const [transposeA, transposeB, shared] = layout, [m, n, count] = [36, 44, 3];
  const as = Array.from({ length: shared === "a" ? 1 : count }, (_, i) => values(m * k, i + 1));
  const bs = Array.from({ length: shared === "b" ? 1 : count }, (_, i) => values(k * n, i + 7));
  const sizes = { batch: 1, m, n, k, transposeA, transposeB };
  assert(canGroup(sizes));
  const each = Array.from(
    { length: count },
    (_, i) => definition(sizes, { a: as[shared === "a" ? 0 : i], b: bs[shared === "b" ? 0 : i] }),
  );
  const sum = each[0].map((x, at) => x + each[1][at] + each[2][at]);
  for (const [way, expected] of [["separate", each], ["summed", [sum]]] as const) {
    const product = { ...sizes, group: { count, as: way, shared } };
    for (const variant of variants[way]) {
      const seen = await computeGroup({ ...product, variant }, [...as, ...bs]);
      const what = `${productKey(product)}, shared ${shared}, ${JSON.stringify(variant)}`;
      // 576 products of numbers below one at most.
      expected.forEach((one, i) => assertClose(seen[i], one, { tolerance: 6e-5, what }));
    }
  }
}

for (const [i, { bm, bn, bk, deep = false }] of MATMUL_TILES.entries()) {
  Deno.test(`matmul computes a group of products, separate and summed: ${bm}x${bn}x${bk}`, async () => {
    // All tiles are filled by the same text: one of them shows all layouts.
    for (const layout of i === 2 ? SEVERAL : SEVERAL.slice(0, 2)) {
      const whole = [tiles(1)[i]];
      await checkGroup({ layout, k: 96, variants: { separate: whole, summed: whole } });
    }
  });

  Deno.test(`matmul computes a group of products by split-K, separate and summed: ${bm}x${bn}x${bk}`, async () => {
    const layouts = SEVERAL.slice(0, deep ? 1 : 2);
    for (const [l, layout] of layouts.entries()) {
      // As many as the sums are long enough for; those of three products go on from one to the next. Layouts take turns.
      const by = (splits: readonly number[]): MatmulVariant[] =>
        splits.filter((_, s) => ALL_CASES || (s + i) % layouts.length === l).map((split) => tiles(split)[i]);
      await checkGroup({ layout, k: 192, variants: { separate: by([2, 3]), summed: by([2, 3, 4, 6, 8]) } });
    }
  });
}
