import { assert, assertEquals } from "@std/assert";
import { joinParts, matmul, type MatmulVariant, partialSize } from "../../kernels/matmul.ts";
import { chooseMatmul, MATMUL_BLOCKS, MATMUL_TILES, matmulVariants } from "../../kernels/matmul_variants.ts";
import { assertClose, blank, runKernel, testDevice, values } from "./run_kernel.ts";

const SUBGROUPS = (await testDevice()).features.has("subgroups");
const GPU = { software: false, subgroups: true, workgroupBytes: 49152 };

const tiles = (split: number): MatmulVariant[] =>
  MATMUL_TILES.map(({ rate: _, enough: __, ...tile }) => ({ kind: "tiled", ...tile, split }));
/** Every tile and block that a product can get, and a block that no product divides. */
const VARIANTS: readonly MatmulVariant[] = [
  ...tiles(1),
  ...tiles(3),
  ...[...MATMUL_BLOCKS, [7, 2]].map(([tm, tn]): MatmulVariant => ({
    kind: "direct",
    tm,
    tn,
    subgroups: SUBGROUPS,
  })),
  { kind: "direct", tm: 7, tn: 2, subgroups: false },
];
const LAYOUTS = [[false, false], [false, true], [true, false], [true, true]] as const;

/** Sizes, and whether a stack: the odd ones load single elements, the others four at once. */
const SIZES = [{ batch: 2, m: 33, n: 17, k: 53 }, { batch: 1, m: 36, n: 132, k: 52 }];

for (const variant of VARIANTS) {
  Deno.test(`matmul equals its definition at odd sizes in all layouts: ${JSON.stringify(variant)}`, async () => {
    const shared = variant.kind === "tiled" && variant.split > 1;
    for (const { batch, m, n, k } of SIZES) {
      // Shared sums differ in where they begin and end, not in how tiles are filled.
      for (const [transposeA, transposeB] of shared ? LAYOUTS.slice(1, 2) : LAYOUTS) {
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
        const product = { batch, m, n, k, transposeA, transposeB };
        const kernel = matmul({ ...product, variant });
        const split = variant.kind === "tiled" ? variant.split : 1;
        const size = split === 1 ? expected.length : split * partialSize(product);
        let [out] = await runKernel(kernel, { inputs: [a, b], outputs: [blank(size)] });
        if (variant.kind === "tiled" && split > 1) {
          const join = joinParts({ ...product, variant });
          [out] = await runKernel(join, { inputs: [out], outputs: [blank(expected.length)] });
        }
        // 53 products of numbers below one: a few units of 6e-8 times their sum.
        assertClose(out, expected, { tolerance: 1e-5, what: kernel.name });
      }
    }
  });
}

Deno.test("matmul writes one text for any number of workgroups that share sums", () => {
  const { rate: _, enough: __, ...tile } = MATMUL_TILES[0];
  const [two, eight] = [2, 8].map((split) =>
    matmul({
      batch: 1,
      m: 256,
      n: 256,
      k: 2048,
      transposeA: false,
      transposeB: false,
      variant: { kind: "tiled", ...tile, split },
    })
  );
  assertEquals(two.code, eight.code);
  assertEquals([two.grid, eight.grid], [[2, 2, 2], [2, 2, 8]]);
});

Deno.test("chooseMatmul takes large tiles for large products, and shares the sums of few tiles", () => {
  const choose = (m: number, n: number, k: number): readonly number[] => {
    const variant = chooseMatmul({ batch: 1, m, n, k }, GPU);
    return variant.kind === "tiled" ? [variant.bm, variant.bn, variant.split] : [];
  };
  assertEquals(choose(4096, 4096, 4096), [128, 128, 1]);
  assertEquals(choose(1024, 768, 64), [64, 64, 1]);
  assertEquals(choose(8192, 8, 768).slice(0, 2), [128, 16]);
  const [, , split] = choose(768, 2048, 8192);
  assert(split > 1, `split ${split}`);
});

Deno.test("matmulVariants fits tiles into the workgroup memory, and parts of sums into a binding", () => {
  const small = matmulVariants({ batch: 1, m: 4096, n: 4096, k: 4096 }, { ...GPU, workgroupBytes: 16384 });
  assertEquals(small.some((v) => v.kind === "tiled" && v.bm === 128), false);
  assert(small.length > 0);
  const wide = matmulVariants({ batch: 1, m: 50257, n: 768, k: 65536 }, GPU);
  assertEquals(wide.some((v) => v.kind === "tiled" && v.split > 1), false);
});

Deno.test("matmulVariants gives software adapters blocks no larger than the product, each once", () => {
  const variants = matmulVariants({ batch: 1, m: 8, n: 9, k: 5 }, {
    ...GPU,
    software: true,
    subgroups: false,
  });
  assertEquals(variants, [{ kind: "direct", tm: 8, tn: 2, subgroups: false }]);
});
