/**
 * Products on matrix units: the texts are checked everywhere that Dawn may be loaded, the results where a driver has such
 * units.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { fromBlocks, toBlocks } from "../../core/data/blocks.ts";
import { fromBf16, fromF16, toBf16, toF16 } from "../../core/data/floats.ts";
import type { Expression } from "../../kernels/expression.ts";
import { identityEpilogue } from "../../kernels/matmul/frame.ts";
import { panelBytes } from "../../kernels/matmul/panels.ts";
import { type Matmul, type MatmulVariant, productKey } from "../../kernels/matmul/types.ts";
import { matrixDevice, textChecker } from "./matrix_device.ts";
import { compute, computeGroup, definition, LAYOUTS, matmul } from "./matmul_reference.ts";
import { assertClose, blank, type Data, packBf16, runKernel, values } from "./run_kernel.ts";

type MatrixVariant = Extract<MatmulVariant, { kind: "matrix" }>;

const opened = await matrixDevice(), checker = await textChecker();
const { device, unit, lanes } = typeof opened === "string"
  ? { device: undefined, unit: { m: 8, n: 8, k: 8 }, lanes: 8 }
  : opened;
/** For tests that need results. */
const results = typeof opened === "string"
  ? { ignore: true, why: ` (not run: ${opened})` }
  : { ignore: false, why: "" };

/** Tiles of few matrices, which compile quickly: one and two on their way into registers, whole and shared sums. */
function variantOf(tile: Partial<MatrixVariant> = {}): MatrixVariant {
  const { m: um, n: un, k: uk } = unit, size = { um, un, uk, lanes };
  return {
    kind: "matrix",
    ...{ bm: 2 * um, bn: 2 * un, bk: 2 * uk, wm: um, wn: un, ahead: 1, split: 1 },
    ...size,
    ...tile,
  };
}
const TALL = variantOf({ bm: 4 * unit.m, wm: 2 * unit.m });
const WIDE = variantOf({ bn: 4 * unit.n, wn: 2 * unit.n });
/** More matrices than that take minutes to compile on a CPU: the loop holds them twice. */
const AHEAD = variantOf({ bk: unit.k, ahead: 2 });

/** A test of results. */
function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: name + results.why, ignore: results.ignore, fn });
}

/** Numbers that are f16, as that and as f32. */
function halves(size: number, seed: number): { readonly f16: Data; readonly f32: Float32Array<ArrayBuffer> } {
  const f16 = toF16(values(size, seed));
  return { f16, f32: fromF16(f16) };
}

/** Sizes that no tile divides: rows of single elements, and of whole chunks. */
const SIZES = [{ batch: 2, m: 33, n: 17, k: 53 }, { batch: 1, m: 40, n: 72, k: 56 }];

for (
  const [i, variant] of [variantOf(), TALL, WIDE, variantOf({ split: 3 }), { ...TALL, split: 2 }, AHEAD, {
    ...AHEAD,
    split: 2,
  }].entries()
) {
  test(`matmul on matrix units equals its definition at odd sizes: ${JSON.stringify(variant)}`, async () => {
    for (const [s, { batch, m, n, k }] of SIZES.entries()) {
      for (const [l, [transposeA, transposeB]] of LAYOUTS.entries()) {
        // Each takes seconds to compile: layouts take turns, and loads of single elements are the same in all tiles.
        if ((l + s + i) % 2 === 1 || (s === 0 && i > 0)) continue;
        const a = halves(batch * m * k, 1), b = halves(batch * k * n, 2);
        const product = { batch, m, n, k, transposeA, transposeB, storedA: "f16", storedB: "f16" } as const;
        const out = await compute({ ...product, variant }, { a: a.f16, b: b.f16, device });
        // Products of f16 are exact as f32, and 56 of them below one are added.
        assertClose(out, definition(product, { a: a.f32, b: b.f32 }), {
          tolerance: 1e-5,
          what: productKey(product),
        });
      }
    }
  });
}

/** What else a product may read: its values as they are stored, and what they become. */
const STORED = {
  f32: (x: Float32Array<ArrayBuffer>) => [x, fromF16(toF16(x))],
  bf16: (x: Float32Array<ArrayBuffer>) => [packBf16(toBf16(x)), fromBf16(toBf16(x))],
  half: (x: Float32Array<ArrayBuffer>) => [packBf16(toF16(x)), fromF16(toF16(x))],
} as const satisfies Record<string, (x: Float32Array<ArrayBuffer>) => readonly [Data, Data]>;

test("matmul on matrix units rounds f32, bf16 and half to f16 as it fills its panels", async () => {
  for (const [i, stored] of (["f32", "bf16", "half"] as const).entries()) {
    for (const [s, { batch, m, n, k }] of SIZES.entries()) {
      const transposeB = (i + s) % 2 === 0;
      const a = halves(batch * m * k, 1), [data, b] = STORED[stored](values(batch * k * n, 2));
      const product = {
        batch,
        m,
        n,
        k,
        transposeA: false,
        transposeB,
        storedA: "f16",
        storedB: stored,
      } as const;
      const out = await compute({ ...product, variant: WIDE }, { a: a.f16, b: data, device });
      const exact = definition(product, { a: a.f32, b });
      assertClose(out, exact, { tolerance: 1e-5, what: productKey(product) });
    }
  }
});

test("matmul on matrix units reads int8 and nf4 in both layouts", async () => {
  for (const [i, stored] of (["int8", "nf4"] as const).entries()) {
    for (const transposeB of [false, true]) {
      const [m, n, k] = [20, 70, 135], [rows, width] = transposeB ? [n, k] : [k, n];
      const a = halves(m * k, 1), words = toBlocks(values(rows * width, i), { stored, width });
      const b = fromF16(toF16(fromBlocks(words, { stored, width })));
      const sizes = { batch: 1, m, n, k, transposeA: false, transposeB };
      const product = { ...sizes, storedA: "f16", storedB: stored } as const;
      const out = await compute({ ...product, variant: variantOf() }, { a: a.f16, b: words, device });
      assertClose(out, definition(product, { a: a.f32, b }), { tolerance: 2e-5, what: productKey(product) });
    }
  }
});

test("matmul on matrix units makes numbers beyond f16 infinite, as every store of f16 does", async () => {
  const [m, n, k] = [8, 8, 8], sizes = { batch: 1, m, n, k, transposeA: false, transposeB: false };
  const a = values(m * k, 1).fill(1e5, 0, 1), b = values(k * n, 2);
  const out = await compute({ ...sizes, variant: variantOf() }, { a, b, device });
  assertEquals([...out].map((x) => Number.isFinite(x)), Array.from({ length: 64 }, (_, i) => i >= 8));
});

test("matmul on matrix units keeps numbers beyond f16 of operands that may have some", async () => {
  const [m, n, k] = [16, 24, 32], a = values(m * k, 1), b = halves(k * n, 2);
  const large = Float32Array.from(a, (x, i) => i % 7 === 0 ? 1e6 * x : x);
  const sizes = { batch: 1, m, n, k, transposeA: false, transposeB: false };
  const product = { ...sizes, storedB: "f16", largeA: true, variant: variantOf() } as const;
  const expected = definition(sizes, { a: large, b: b.f32 });
  const out = await compute(product, { a: large, b: b.f16, device });
  // Numbers of up to 1e6 lose 2^-11 of that.
  assertClose(out, expected, { tolerance: 1e3, what: "A" });
  const plain = await compute(product, { a, b: b.f16, device });
  assertClose(plain, definition(sizes, { a, b: b.f32 }), { tolerance: 2e-3, what: "none is large" });
  // The same product transposed: B is large.
  const back = {
    ...sizes,
    m: n,
    n: m,
    transposeA: true,
    transposeB: true,
    storedA: "f16",
    largeB: true,
  } as const;
  const other = await compute({ ...back, variant: variantOf({ split: 2 }) }, { a: b.f16, b: large, device });
  const turned = expected.map((_, i) => other[(i % n) * m + Math.floor(i / n)]);
  assertClose(turned, expected, { tolerance: 1e3, what: "B" });
});

/** `[m, n]`: bias * product + total, and its square; the first is stored over the total where asked for. */
function expressionOf(m: number, n: number): Expression {
  return {
    shape: [m, n],
    inputs: [{ type: "f32", strides: [0, 1] }, { type: "f32", strides: [n, 1] }],
    steps: [
      { kind: "load", input: 0 },
      { kind: "load", input: 1 },
      { kind: "given", name: "acc" },
      { kind: "compute", text: ([bias, total, acc]) => `${bias} * ${acc} + ${total}`, args: [0, 1, 2] },
      { kind: "compute", text: ([x]) => `${x} * ${x}`, args: [3] },
    ],
  };
}

test("matmul on matrix units computes epilogues of several outputs, some as f16, and in place", async () => {
  for (const n of [21, 24]) {
    const variant = variantOf();
    const [m, k] = [37, 24], a = halves(m * k, 1), b = halves(k * n, 2);
    const bias = values(n, 3), total = values(m * n, 4);
    const sizes = { batch: 1, m, n, k, transposeA: false, transposeB: false, variant } as const;
    const product = { ...sizes, storedA: "f16", storedB: "f16" } as const;
    const expected = definition(sizes, { a: a.f32, b: b.f32 }).map((x, i) => x * bias[i % n] + total[i]);
    const expression = expressionOf(m, n);
    const inputs = [a.f16, b.f16, bias, total];
    const [first, second] = await runKernel(
      matmul({ ...product, epilogue: { expression, outputs: [3, 4], half: [false, true] } }),
      { inputs, outputs: [blank(m * n), new Uint16Array(m * n)], device },
    );
    assertClose(first, expected, { tolerance: 1e-5, what: "f32" });
    assertClose(fromF16(second), expected.map((x) => x * x), { tolerance: 2 ** -4, what: "f16" });
    const over = matmul({ ...product, epilogue: { expression, outputs: [3], overwrites: [1] } });
    const [written] = await runKernel(over, { inputs: inputs.slice(0, 3), outputs: [total], device });
    assertEquals(written, first);
  }
});

test("matmul on matrix units computes groups, apart and summed, whole and with shared sums", async () => {
  const [m, n, k, count] = [24, 40, 64, 3];
  for (const [transposeA, transposeB, shared] of [[false, true, "a"], [true, false, "b"]] as const) {
    const as = Array.from({ length: shared === "a" ? 1 : count }, (_, i) => halves(m * k, i + 1));
    const bs = Array.from({ length: shared === "b" ? 1 : count }, (_, i) => halves(k * n, i + 7));
    const sizes = { batch: 1, m, n, k, transposeA, transposeB, storedA: "f16", storedB: "f16" } as const;
    const each = Array.from(
      { length: count },
      (_, i) => definition(sizes, { a: as[shared === "a" ? 0 : i].f32, b: bs[shared === "b" ? 0 : i].f32 }),
    );
    const sum = each[0].map((x, at) => x + each[1][at] + each[2][at]);
    for (const [way, expected] of [["separate", each], ["summed", [sum]]] as const) {
      const variant = variantOf({ split: way === "summed" === transposeA ? 2 : 1 });
      const product = { ...sizes, group: { count, as: way, shared }, variant };
      const seen = await computeGroup(product, [...as, ...bs].map(({ f16 }) => f16), device);
      const what = `${productKey(product)}, shared ${shared}`;
      expected.forEach((one, i) => assertClose(seen[i], one, { tolerance: 4e-5, what }));
    }
  }
});

test("matmul on matrix units ends where a limit says, and takes padded rows and missing columns", async () => {
  const [m, n, k] = [40, 24, 56], variant = TALL;
  for (const [limit, at, unit] of [["m", 17, variant.bm], ["k", 33, variant.bk]] as const) {
    const transposeA = limit === "k", width = transposeA ? m : k, more = [Uint32Array.of(at)];
    const plain = halves(m * k, 1).f32.fill(0, at * width), b = halves(k * n, 2);
    const sizes = { batch: 1, m, n, k, transposeA, transposeB: false } as const;
    const product = { ...sizes, storedA: "f16", storedB: "f16", limit, variant } as const;
    const expected = definition(sizes, { a: plain, b: b.f32 });
    // What lies beyond whole tiles is not even read.
    const a = toF16(plain.slice().fill(NaN, Math.ceil(at / unit) * unit * width));
    const out = await compute(product, { a, b: b.f16, more, device });
    assertClose(out, expected, { tolerance: 1e-5, what: limit });
  }
  const stride = 64, a = halves(m * k, 1), b = halves(17 * k, 2);
  const sizes = { batch: 1, m, n: 17, k, transposeA: false, transposeB: true } as const;
  const padded = Float32Array.from(
    { length: m * stride },
    (_, i) => i % stride < k ? a.f32[Math.floor(i / stride) * k + i % stride] : 0,
  );
  const out = await compute(
    { ...sizes, n: 24, columnsB: 17, strideA: stride, storedA: "f16", storedB: "f16", variant },
    { a: toF16(padded), b: b.f16, device },
  );
  const expected = definition(sizes, { a: a.f32, b: b.f32 });
  assertClose(out.filter((_, i) => i % 24 < 17), expected, { tolerance: 1e-5, what: "pads" });
  assert(out.every(Number.isFinite));
});

/** Tiles of a large GPU, and products that read and write in every way. */
const LARGE = variantOf({ bm: 128, bn: 128, bk: 64, wm: 64, wn: 32, um: 16, un: 16, uk: 16, lanes: 32 });
const SQUARE = { batch: 1, m: 256, n: 256, k: 256, transposeA: false, transposeB: true } as const;
const TEXTS: readonly Matmul[] = [
  ...LAYOUTS.map(([transposeA, transposeB]): Matmul => ({
    ...{ ...SQUARE, transposeA, transposeB, variant: LARGE },
    ...{ storedA: "f16", storedB: "f16", epilogue: identityEpilogue([256, 256], true) },
  })),
  ...(["f32", "bf16", "half", "int8", "nf4"] as const).map((storedB): Matmul => ({
    ...{ ...SQUARE, batch: 2, m: 77, n: 75, k: 131, storedA: "f16", storedB },
    variant: { ...LARGE, ahead: 2, split: 4, bk: 32 },
  })),
  ...(["separate", "summed"] as const).map((as): Matmul => ({
    ...{ ...SQUARE, storedA: "f16", storedB: "f16", group: { count: 3, as, shared: "a" } },
    variant: LARGE,
  })),
  {
    ...{ ...SQUARE, transposeA: true, storedA: "f32", storedB: "f32", limit: "k", variant: LARGE },
    epilogue: { expression: expressionOf(256, 256), outputs: [3], overwrites: [1], additive: true },
  },
];

Deno.test("matmul on matrix units places every matrix at a constant within its panel, where no check is needed", () => {
  for (const product of TEXTS) {
    const { code } = matmul(product);
    assertMatch(code, /^enable f16;\nenable subgroups;\n/);
    const places = code.match(/subgroupMatrix(Load|Store)<.*/g)!;
    for (const place of places) assertMatch(place, /\(&panels\[[^\]]*\], \d+,( c\d_\d,)? \d+\)/);
    const { bk, ahead } = product.variant as MatrixVariant;
    assertEquals(places.length, (LARGE.wm + LARGE.wn) / 16 * bk / 16 * ahead + 8);
    const [, length, count] = code.match(/array<array<vec4<u32>, (\d+)>, (\d+)>/)!;
    assertEquals(16 * Number(length) * Number(count), panelBytes(product.variant as MatrixVariant, product));
  }
});

Deno.test("matmul loads nothing where a part of the sums is empty: such a part begins behind the operands", () => {
  const tiled = { kind: "tiled", bm: 32, bn: 32, bk: 16, tm: 4, tn: 4 } as const;
  for (const one of [LARGE, { ...LARGE, ahead: 2 } as const, tiled]) {
    const guarded = [1, 8].map((split) => {
      const { code } = matmul({ ...SQUARE, k: 576, storedA: "f16", variant: { ...one, split } });
      return /var k0 = begin;\s*if \(k0 < end\) \{/.test(code);
    });
    assertEquals(guarded, [false, true], one.kind);
  }
});

Deno.test({
  name: `matmul on matrix units writes valid WGSL${
    typeof checker === "string" ? ` (not run: ${checker})` : ""
  }`,
  ignore: typeof checker === "string",
  async fn() {
    for (const product of TEXTS) {
      const { code, name } = matmul(product);
      assertEquals(await (checker as Exclude<typeof checker, string>)(code), [], name);
    }
    const broken = matmul(TEXTS[0]).code.replace("row_major", "any_major");
    assert((await (checker as Exclude<typeof checker, string>)(broken)).length > 0);
  },
});
