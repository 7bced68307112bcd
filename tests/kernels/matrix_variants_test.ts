/**
 * When products are computed on matrix units, and by which tiles.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { matmul } from "./matmul_reference.ts";
import { MATRIX_TILES } from "../../kernels/matmul/matrix_variants.ts";
import { panelBytes } from "../../kernels/matmul/panels.ts";
import type { ProductSizes } from "../../kernels/matmul/predict.ts";
import { type MatmulVariant, splitOf } from "../../kernels/matmul/types.ts";
import {
  chooseMatmul,
  isVariant,
  matmulVariants,
  type VariantOptions,
} from "../../kernels/matmul/variants.ts";
import { sideBySide } from "../../kernels/side_by_side.ts";
import { matrixProducts } from "../../kernels/matmul/matrix_products.ts";
import { textChecker } from "./matrix_device.ts";

const UNIT = { m: 16, n: 16, k: 16, operands: "f16", sums: "f32" } as const;
/** An H200 with Dawn. */
const GPU = {
  software: false,
  subgroups: true,
  subgroupSize: 32,
  matrices: [UNIT],
  units: matrixProducts,
  workgroupBytes: 49152,
};
const SIZES = { batch: 1, m: 8192, n: 768, k: 3072 } as const;
const HALF = { ...SIZES, storedA: "f16", storedB: "f16" } as const;

const kindOf = (more: Partial<ProductSizes>, on: VariantOptions = GPU): string =>
  chooseMatmul({ ...SIZES, ...more }, on).kind;

Deno.test("chooseMatmul takes matrix units where an operand is f16, however the other one is stored", () => {
  for (const stored of ["f16", "f32", "bf16", "half", "int8", "nf4"] as const) {
    assertEquals(kindOf({ storedA: "f16", storedB: stored }), "matrix", stored);
    assertEquals(kindOf({ storedA: "f32", storedB: stored }), stored === "f16" ? "matrix" : "tiled", stored);
  }
  for (const k of [3072, 3070]) assertEquals(kindOf({ storedA: "f16", k, n: 770 }), "matrix", `${k}`);
});

Deno.test("chooseMatmul takes no matrix unit of other types, and none where the size of subgroups is not known", () => {
  assertEquals(kindOf(HALF), "matrix");
  for (
    const other of [
      { matrices: [] },
      { matrices: undefined },
      { subgroupSize: 0 },
      { matrices: [{ ...UNIT, sums: "f16" as const }] },
      { matrices: [{ ...UNIT, operands: "f32" as const }] },
    ]
  ) assertEquals(kindOf(HALF, { ...GPU, ...other }), "tiled", JSON.stringify(other));
});

Deno.test("matmulVariants multiply f32 on matrix units where pairs of f16 are asked for, as tiles of those fit", () => {
  const pairs = { ...SIZES, paired: true } as const;
  for (const storedB of ["f32", "bf16", "half", "int8", "nf4"] as const) {
    assertEquals(kindOf({ paired: true, storedB }), "matrix", storedB);
  }
  for (const v of matmulVariants(pairs, GPU)) {
    assert(v.kind !== "matrix" || panelBytes(v, pairs) <= GPU.workgroupBytes);
  }
  assertEquals(kindOf(pairs, { ...GPU, matrices: [] }), "tiled");
});

Deno.test("matmulVariants have tiles of 96 columns for products that share no launch", () => {
  const wide = (m: number): boolean =>
    matmulVariants({ ...HALF, m, n: 768, k: 768 }, GPU).some((v) => v.kind === "matrix" && v.bn === 96);
  assertEquals([512, 1024].map(wide), [false, true]);
});

/** What was fastest on an H200; and how many variants the tuner measures. */
const FASTEST = [
  [8192, 2304, 768, "128 128 64 2"],
  [8192, 768, 3072, "128 128 64 1"],
  [8192, 768, 768, "128 128 64 2"],
  [1024, 2304, 768, "64 96 64 2"],
  [1024, 768, 768, "64 96 64 2"],
  [1024, 768, 3072, "64 96 64 2"],
  [1024, 3072, 768, "64 192 32 1"],
] as const;
const MEASURED = 8;

const tileOf = (v: MatmulVariant): string =>
  v.kind === "matrix" ? `${v.bm} ${v.bn} ${v.bk} ${v.ahead}` : v.kind;

Deno.test("chooseMatmul takes the tiles that were fastest on an H200, and the tuner measures them", () => {
  for (const [m, n, k, tile] of FASTEST) {
    assertEquals(tileOf(chooseMatmul({ ...HALF, m, n, k, transposeB: true }, GPU)), tile, `${m}x${n}x${k}`);
  }
  const gradient = { ...HALF, m: 768, n: 2304, k: 8192, transposeA: true };
  assertEquals(tileOf(chooseMatmul(gradient, GPU)), "128 128 32 1");
  const measured = matmulVariants(gradient, GPU).slice(0, MEASURED);
  assert(measured.some((v) => tileOf(v) === "128 128 32 1" && splitOf(v) === 4));
  for (const [m, n, tile] of [[8192, 2304, "128 128 32 1"], [1024, 768, "64 96 32 1"]] as const) {
    const pairs = { ...SIZES, m, n, k: 768, transposeB: true, paired: true };
    assertEquals(tileOf(chooseMatmul(pairs, GPU)), tile, `${m}x${n}x768 by pairs`);
  }
});

Deno.test("matmulVariants are the same with matrix units and without in plans of f32", () => {
  for (const m of [1, 16, 1024]) {
    for (const storedB of ["f32", "bf16", "nf4"] as const) {
      const sizes = { ...SIZES, m, storedB }, without = { ...GPU, matrices: [] };
      assertEquals(matmulVariants(sizes, GPU), matmulVariants(sizes, without));
    }
  }
});

Deno.test("matmulVariants on matrix units fit the adapter, split the sums of few tiles, and suit groups", () => {
  const tried = matmulVariants({ ...HALF, m: 768, n: 2304, k: 8192, transposeA: true }, GPU);
  assert(tried.every((variant) => variant.kind === "matrix"));
  assert(tried.slice(0, 8).some((variant) => splitOf(variant) > 1), "the tuner measures shared sums");
  const tiles = new Set(tried.slice(0, 8).map((v) => v.kind === "matrix" ? `${v.bm} ${v.bn} ${v.bk}` : ""));
  assert(tiles.size >= 3, "the tuner measures several tiles");
  const whole = matmulVariants(HALF, { ...GPU, whole: true });
  assert(whole.every((variant) => splitOf(variant) === 1));
  const small = matmulVariants(HALF, { ...GPU, workgroupBytes: 32768 });
  for (const v of small) assert(v.kind === "matrix" && panelBytes(v, { transposeB: false }) <= 32768);
  // Tiles of a sum end where products do.
  const summed = matmulVariants({ ...HALF, k: 96, group: { count: 3, as: "summed" } }, GPU);
  assert(summed.every((v) => v.kind === "matrix" && v.bk === 32));
  // Two halves of a word belong to different rows.
  assertEquals(kindOf({ storedA: "f16", storedB: "bf16", k: 3076, transposeB: true }), "tiled");
});

Deno.test("matmulVariants compiles few matrices on a software adapter", () => {
  const small = { ...UNIT, m: 8, n: 8, k: 8 };
  const [first] = matmulVariants(HALF, { ...GPU, software: true, subgroupSize: 8, matrices: [small] });
  assertEquals(first.kind === "matrix" && [first.bm, first.wm, first.um, first.lanes], [16, 8, 8, 8]);
});

Deno.test("isVariant knows the choice of an adapter with matrix units from that of another one", () => {
  const variant: unknown = JSON.parse(JSON.stringify(chooseMatmul(HALF, GPU)));
  assert(isVariant(variant, { sizes: HALF, options: GPU }));
  assert(!isVariant(variant, { sizes: SIZES, options: GPU }));
  assert(!isVariant(variant, { sizes: HALF, options: { ...GPU, subgroupSize: 64 } }));
  assert(!isVariant(variant, { sizes: HALF, options: { ...GPU, matrices: [] } }));
});

const checker = await textChecker();

Deno.test({
  name: `every tile on matrix units is valid WGSL, alone and beside another product${
    typeof checker === "string" ? ` (not run: ${checker})` : ""
  }`,
  ignore: typeof checker === "string",
  async fn() {
    const check = checker as Exclude<typeof checker, string>;
    for (const { bm, bn, bk, wm, wn, ahead = 1 } of MATRIX_TILES) {
      const tile = { bm, bn, bk, wm, wn, ahead, um: 16, un: 16, uk: 16, lanes: 32 } as const;
      const variant: MatmulVariant = { kind: "matrix", ...tile, split: 1 };
      const kernels = [true, false].map((transposeB) =>
        matmul({ ...HALF, m: 96, transposeA: false, transposeB, variant })
      );
      const bound = kernels.map((kernel, i) => ({ kernel, bindings: [0, 1 + 2 * i, 2 + 2 * i] }));
      const { kernel } = sideBySide(bound);
      for (const { code, name } of [kernels[0], kernel]) assertEquals(await check(code), [], name);
    }
  },
});
