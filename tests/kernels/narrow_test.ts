/**
 * Products of few rows, by the kernels that read each weight once.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { fromBlocks, toBlocks } from "../../core/data/blocks.ts";
import { fromBf16, fromF16, toBf16, toF16 } from "../../core/data/floats.ts";
import { isNarrow } from "../../kernels/matmul/narrow.ts";
import { type MatmulVariant, productKey } from "../../kernels/matmul/types.ts";
import { chooseMatmul, matmulVariants } from "../../kernels/matmul/variants.ts";
import { ALL_CASES } from "../reference/all_cases.ts";
import { compute, computeGroup, definition } from "./matmul_reference.ts";
import { assertClose, packBf16, testSubgroups, values } from "./run_kernel.ts";

const { subgroups: SUBGROUPS } = await testSubgroups();
type Floats = Float32Array<ArrayBuffer>;

/** Each kind of storage: words of some rows, and the values that they stand for. */
const STORED = {
  f32: (x: Floats) => [x, x],
  bf16: (x: Floats) => [packBf16(toBf16(x)), fromBf16(toBf16(x))],
  half: (x: Floats) => [packBf16(toF16(x)), fromF16(toF16(x))],
  int8: (x: Floats, width: number) => blocks("int8", x, width),
  nf4: (x: Floats, width: number) => blocks("nf4", x, width),
} as const;

function blocks(
  stored: "int8" | "nf4",
  x: Floats,
  width: number,
): readonly [Uint32Array<ArrayBuffer>, Floats] {
  const words = toBlocks(x, { stored, width });
  return [words, fromBlocks(words, { stored, width })];
}

const narrow = (across: number, along: number, each: number, subgroups = false) =>
  ({ kind: "narrow", across, along, each, subgroups }) as const satisfies MatmulVariant;

/** Those of a CPU where subgroups are there, and some of a GPU. */
const VARIANTS: readonly MatmulVariant[] = [
  narrow(1, 8, 4, SUBGROUPS),
  ...SUBGROUPS ? [{ kind: "rows", rows: 16 } as const] : [],
  narrow(4, 32, 1),
  narrow(2, 16, 2),
  narrow(8, 1, 4),
];

for (const [i, variant] of VARIANTS.entries()) {
  Deno.test(`a product of few rows is that of its definition: ${JSON.stringify(variant)}`, async () => {
    for (const [s, [storedB, store]] of Object.entries(STORED).entries()) {
      for (const [l, transposeB] of [true, false].entries()) {
        if (variant.kind === "rows" && !transposeB) continue;
        if (!ALL_CASES && (i + s + l) % 2 === 0 && i > 0 && variant.kind !== "rows") continue;
        // Sums end amid units of 16 and 32, and columns amid groups and quads of blocks.
        const m = [1, 3, 8][(s + l + i) % 3],
          k = (variant.kind === "rows" ? 576 : 132) + 4 * (s % 2),
          n = isNarrow({ batch: 1, m, n: 70, k, transposeB, storedB: storedB as "f32" }) ? 70 : 72;
        const [b, wide] = store(values(n * k, 2), transposeB ? k : n), a = values(m * k, 1);
        const product = {
          batch: 1,
          m,
          n,
          k,
          transposeA: false,
          transposeB,
          variant,
          storedB: storedB as "f32",
        };
        assert(isNarrow(product));
        const out = await compute(product, { a, b });
        assertClose(out, definition(product, { a, b: wide }), { tolerance: 2e-5, what: productKey(product) });
      }
    }
  });
}

Deno.test("what follows the end of a row of A counts for nothing, even where it is no number", async () => {
  // The last unit of a row is in the loop when all threads have one of the last units, else behind it.
  for (const variant of VARIANTS.slice(0, SUBGROUPS ? 2 : 1)) {
    for (const [m, n, k] of [[2, 5, 36], [2, 5, 124]]) {
      const a = values(m * k, 1).fill(NaN, k), [b, wide] = STORED.int8(values(n * k, 2), k);
      const product = { batch: 1, m, n, k, transposeA: false, transposeB: true, variant };
      const out = await compute({ ...product, storedB: "int8" }, { a, b });
      assertClose(out.subarray(0, n), definition({ ...product, m: 1 }, { a, b: wide }), {
        tolerance: 2e-5,
        what: `row 0 of ${k}`,
      });
    }
  }
});

Deno.test("products of few rows that read one input share a launch", async () => {
  const [m, n, k] = [2, 24, 64],
    a = values(m * k, 1),
    codes = [2, 3].map((seed) => toBf16(values(n * k, seed)));
  const byRows = { kind: "rows", rows: 16 } as const;
  for (
    const [transposeB, variant] of [
      [true, narrow(4, 32, 1)],
      [false, narrow(4, 32, 1)],
      ...SUBGROUPS ? [[true, byRows] as const] : [],
    ] as const
  ) {
    const product = { batch: 1, m, n, k, transposeA: false, transposeB, storedB: "bf16", variant } as const;
    const seen = await computeGroup(
      { ...product, group: { count: 2, as: "separate", shared: "a" } },
      [a, ...codes.map(packBf16)],
    );
    seen.forEach((one, i) =>
      assertClose(one, definition(product, { a, b: fromBf16(codes[i]) }), {
        tolerance: 1e-5,
        what: `product ${i}`,
      })
    );
  }
});

Deno.test("chooseMatmul reads many weights once where there are few rows, and no others so", () => {
  const cpu = { software: true, subgroups: true, workgroupBytes: 32768 }, gpu = { ...cpu, software: false };
  const sizes = { batch: 1, m: 1, n: 576, k: 1536, transposeB: true };
  const kinds = (more: object): string[] =>
    [cpu, gpu].map((on) => chooseMatmul({ ...sizes, ...more }, on).kind);
  assertEquals(kinds({}), ["rows", "narrow"]);
  assertEquals(kinds({ storedB: "int8" }), ["rows", "narrow"]);
  assertEquals(kinds({ k: 16384 }), ["narrow", "narrow"], "A is too long to be kept");
  assertEquals(kinds({ transposeB: false }), ["narrow", "narrow"]);
  assertEquals(kinds({ m: 8 }), ["direct", "narrow"]);
  for (
    const other of [{ m: 9 }, { n: 8, k: 64 }, { k: 1537 }, { transposeA: true }, { batch: 2 }, {
      limit: "m",
    }]
  ) {
    assertEquals(kinds(other), ["direct", "tiled"], JSON.stringify(other));
  }
  // What threads add up must fit the workgroup memory.
  const most = { ...gpu, workgroupBytes: 16384 }, wide = { ...sizes, m: 8, transposeB: false };
  for (const variant of matmulVariants(wide, most)) {
    if (variant.kind === "narrow") assert(4 * 8 * variant.across * variant.along * variant.each <= 16384);
  }
  assert(matmulVariants(wide, most).some(({ kind }) => kind === "narrow"));
  const tried = matmulVariants(sizes, gpu).map(({ kind }) => kind);
  assert(tried.includes("tiled") && tried.indexOf("tiled") < 8, "a tuner must measure tiles, too");
});
