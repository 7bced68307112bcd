import { assert, assertEquals } from "@std/assert";
import { canGroup, matmul } from "../../kernels/matmul/matmul.ts";
import { type Matmul, type MatmulVariant, productKey } from "../../kernels/matmul/types.ts";
import type { Expression } from "../../kernels/expression.ts";
import { chooseMatmul, MATMUL_BLOCKS, MATMUL_TILES, matmulVariants } from "../../kernels/matmul/variants.ts";
import { compute, definition, LAYOUTS, SIZES, tiles } from "./matmul_reference.ts";
import { assertClose, blank, runKernel, testSubgroups, values } from "./run_kernel.ts";
import { ALL_CASES } from "../reference/all_cases.ts";

const { subgroups: SUBGROUPS } = await testSubgroups();
const GPU = { software: false, subgroups: true, workgroupBytes: 49152 };

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
/** Tiles and blocks of each kind: the smaller ones, as the largest take seconds to compile. */
const SOME = [
  ...(ALL_CASES ? [tiles(1)[0], tiles(3)[1]] : []),
  tiles(1)[3],
  tiles(3)[4],
  ...VARIANTS.slice(-2),
];

for (const [i, variant] of VARIANTS.entries()) {
  Deno.test(`matmul equals its definition at odd sizes in all layouts: ${JSON.stringify(variant)}`, async () => {
    const shared = variant.kind === "tiled" && variant.split > 1;
    for (const [s, { batch, m, n, k }] of SIZES.entries()) {
      // Sums too short to share: some parts are empty. Those that are long enough have tests of their own. The others
      // take two layouts of a size and two of the other one, in turns, as each takes a second to compile.
      const layouts = LAYOUTS.filter((_, l) =>
        shared ? l === 1 : ALL_CASES || (l + (l >> 1) + s + i) % 2 === 0
      );
      for (const [transposeA, transposeB] of layouts) {
        const a = values(batch * m * k, 1), b = values(batch * k * n, 2);
        const product = { batch, m, n, k, transposeA, transposeB };
        const out = await compute({ ...product, variant }, { a, b });
        // 53 products of numbers below one: a few units of 6e-8 times their sum.
        assertClose(out, definition(product, { a, b }), { tolerance: 1e-5, what: productKey(product) });
      }
    }
  });
}

Deno.test("canGroup refuses products that share a tile, stacks, limits and loads of single elements", () => {
  const fine = { batch: 1, m: 8, n: 8, k: 32, transposeA: false, transposeB: true };
  assert(canGroup(fine));
  const refused: readonly Partial<Matmul>[] = [
    { k: 48 },
    { batch: 2 },
    { limit: "m" },
    { strideA: 40 },
    { columnsB: 4 },
    { m: 7, transposeA: true },
    { n: 7, transposeB: false },
  ];
  for (const change of refused) assert(!canGroup({ ...fine, ...change }), JSON.stringify(change));
});

/** A matrix `[rows, columns]` as `[rows, stride]`, with `rest` behind its rows. */
function padded(
  data: Float32Array<ArrayBuffer>,
  { columns, stride, rest }: { readonly columns: number; readonly stride: number; readonly rest: number },
): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: data.length / columns * stride }, (_, i) => {
    const column = i % stride;
    return column < columns ? data[Math.floor(i / stride) * columns + column] : rest;
  });
}

for (const variant of SOME) {
  Deno.test(`matmul takes rows of A that end in zeros, and columns that B lacks: ${JSON.stringify(variant)}`, async () => {
    const [m, n, k] = [37, 20, 41], stride = 48;
    const a = values(m * k, 1), b = values(k * n, 2);
    const sizes = { batch: 1, m, n, k, transposeB: false, variant } as const;
    for (const transposeA of [false, true]) {
      const plain = await compute({ ...sizes, transposeA }, { a, b });
      const columns = transposeA ? m : k;
      const wide = await compute({ ...sizes, transposeA, strideA: stride }, {
        a: padded(a, { columns, stride, rest: 0 }),
        b,
      });
      assertEquals(wide, plain);
    }
    for (const depth of [40, 41]) {
      const sizes = { batch: 1, m, n: 37, k: depth, transposeA: false, transposeB: true, variant } as const;
      const operands = { a: values(m * depth, 1), b: values(37 * depth, 2) };
      const plain = await compute(sizes, operands);
      const wide = await compute({ ...sizes, n: 44, columnsB: 37 }, operands);
      assertEquals(wide.filter((_, i) => i % 44 < 37), plain);
      assert(wide.every(Number.isFinite));
    }
  });
}

for (const variant of SOME) {
  Deno.test(`matmul ends where a limit says: ${JSON.stringify(variant)}`, async () => {
    const [m, n, k] = [150, 20, 70];
    const edge = variant.kind === "tiled" ? variant.bm : (variant as { readonly tm: number }).tm;
    const depth = variant.kind === "tiled" ? variant.bk : 8;
    for (const [limit, most, unit] of [["m", m, edge], ["k", k, depth]] as const) {
      const sizes = { batch: 1, m, n, k, transposeA: limit === "k", transposeB: false, variant } as const;
      for (const at of [0, unit, unit + 1, most + 9]) {
        const a = values(m * k, 1).fill(0, at * (limit === "m" ? k : m)), b = values(k * n, 2);
        const expected = await compute(sizes, { a, b });
        const limited = { ...sizes, limit };
        const more = [Uint32Array.of(at)];
        const seen = await compute(limited, { a, b, more });
        // The same products in another order where several workgroups share them.
        assertClose(seen, expected, { tolerance: 1e-5, what: `${limit} up to ${at}` });
        // What lies beyond whole tiles is not even read.
        const whole = Math.ceil(at / unit) * unit * (limit === "m" ? k : m);
        const [left, right] = [
          a.slice().fill(NaN, whole),
          b.slice().fill(NaN, limit === "k" ? whole / m * n : b.length),
        ];
        assertEquals(await compute(limited, { a: left, b: right, more }), seen);
      }
    }
  });
}

Deno.test("matmul equals its definition in all blocks that a small product gets on a software adapter", async () => {
  const seen = new Set<string>();
  for (const m of [1, 5, 9, 23]) {
    for (const [n, k] of [[3, 53], [12, 52], [20, 37]]) {
      const options = { software: true, subgroups: SUBGROUPS, workgroupBytes: 32768 };
      for (const variant of matmulVariants({ batch: 2, m, n, k }, options)) {
        const block = variant.kind === "direct" ? `${variant.tm}x${variant.tn}` : "";
        if (seen.has(block)) continue;
        seen.add(block);
        for (const layout of [seen.size, seen.size + 1]) {
          const [transposeA, transposeB] = LAYOUTS[layout % LAYOUTS.length];
          const a = values(2 * m * k, 1), b = values(2 * k * n, 2);
          const product = { batch: 2, m, n, k, transposeA, transposeB };
          const out = await compute({ ...product, variant }, { a, b });
          const what = `${productKey(product)} in blocks of ${block}`;
          assertClose(out, definition(product, { a, b }), { tolerance: 1e-5, what });
        }
      }
    }
  }
  for (const block of ["1x1", "1x2", "1x3", "23x3", "16x3", "9x2", "8x1"]) assert(seen.has(block), block);
});

Deno.test("matmul leaves what it adds up alone where a limit leaves nothing to add", async () => {
  const expression: Expression = {
    shape: [9, 12],
    inputs: [{ type: "f32", strides: [12, 1] }],
    steps: [
      { kind: "load", input: 0 },
      { kind: "given", name: "acc" },
      { kind: "compute", text: ([total, acc]) => `${total} + ${acc}`, args: [0, 1] },
    ],
  };
  for (const variant of [VARIANTS[0], VARIANTS.at(-1)!]) {
    const epilogue = { expression, outputs: [2], overwrites: [0], additive: true };
    const layout = { transposeA: true, transposeB: false, limit: "k", variant, epilogue } as const;
    const kernel = matmul({ batch: 1, m: 9, n: 12, k: 8, ...layout });
    const nothing = [blank(72), blank(96), Uint32Array.of(0)], total = values(108, 1);
    assertEquals(await runKernel(kernel, { inputs: nothing, outputs: [total] }), [total]);
    const [some] = await runKernel(kernel, {
      inputs: [values(72, 2), values(96, 3), Uint32Array.of(1)],
      outputs: [total],
    });
    assert(some.some((x, i) => x !== total[i]));
  }
});

Deno.test("matmul writes an output over an input of its epilogue, with the same bits as beside it", async () => {
  for (const variant of [VARIANTS[0], VARIANTS.at(-1)!]) {
    for (const n of [20, 21]) {
      const [m, k] = [37, 12];
      const expression: Expression = {
        shape: [m, n],
        inputs: [{ type: "f32", strides: [0, 1] }, { type: "f32", strides: [n, 1] }],
        steps: [
          { kind: "load", input: 0 },
          { kind: "load", input: 1 },
          { kind: "given", name: "acc" },
          { kind: "compute", text: ([bias, total, acc]) => `${bias} * ${acc} + ${total}`, args: [0, 1, 2] },
        ],
      };
      const sizes = { batch: 1, m, n, k, transposeA: false, transposeB: false, variant } as const;
      const inputs = [values(m * k, 1), values(k * n, 2), values(n, 3)], total = values(m * n, 4);
      const beside = await runKernel(matmul({ ...sizes, epilogue: { expression, outputs: [3] } }), {
        inputs: [...inputs, total],
        outputs: [blank(m * n)],
      });
      const over = matmul({ ...sizes, epilogue: { expression, outputs: [3], overwrites: [1] } });
      assertEquals(await runKernel(over, { inputs, outputs: [total] }), beside);
    }
  }
});

Deno.test("matmul writes one text for any number of workgroups that share sums", () => {
  const { bm, bn, bk, tm, tn } = MATMUL_TILES[0];
  const [two, eight] = [2, 8].map((split) =>
    matmul({
      batch: 1,
      m: 256,
      n: 256,
      k: 2048,
      transposeA: false,
      transposeB: false,
      variant: { kind: "tiled", bm, bn, bk, tm, tn, split },
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
  const depths = [49152, 32768].map((workgroupBytes) =>
    chooseMatmul({ batch: 1, m: 4096, n: 4096, k: 4096 }, { ...GPU, workgroupBytes })
  );
  assertEquals(depths.map((v) => v.kind === "tiled" ? [v.bm, v.bk] : []), [[128, 32], [128, 16]]);
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
