/**
 * Products of f32 on matrix units, by pairs of f16: how numbers become pairs everywhere, the results where a driver has such
 * units.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { fromBlocks, toBlocks } from "../../core/data/blocks.ts";
import { fromBf16, fromF16, toBf16, toF16 } from "../../core/data/floats.ts";
import { identityEpilogue } from "../../kernels/matmul/frame.ts";
import { magnitudes, magnitudesOf } from "../../kernels/matmul/magnitudes.ts";
import { pair, SEGMENT, shiftOf } from "../../kernels/matmul/pairs.ts";
import { panelBytes } from "../../kernels/matmul/panels.ts";
import { type Matmul, type MatmulVariant, productKey } from "../../kernels/matmul/types.ts";
import { matrixDevice, textChecker } from "./matrix_device.ts";
import { compute, definition, LAYOUTS, matmul } from "./matmul_reference.ts";
import { type Data, packBf16, runKernel, values } from "./run_kernel.ts";

type MatrixVariant = Extract<MatmulVariant, { kind: "matrix" }>;
type Product = Omit<Matmul, "variant">;

const opened = await matrixDevice(), checker = await textChecker();
const { device, unit, lanes } = typeof opened === "string"
  ? { device: undefined, unit: { m: 8, n: 8, k: 8 }, lanes: 8 }
  : opened;

/** A test of results. */
function test(name: string, fn: () => Promise<void>): void {
  const ignore = typeof opened === "string";
  Deno.test({ name: ignore ? `${name} (not run: ${opened})` : name, ignore, fn });
}

/** A tile of few matrices, which compiles quickly. */
function variantOf(tile: Partial<MatrixVariant> = {}): MatrixVariant {
  const { m: um, n: un, k: uk } = unit;
  return {
    kind: "matrix",
    ...{ bm: 2 * um, bn: 2 * un, bk: 2 * uk, wm: um, wn: un, ahead: 1, split: 1, um, un, uk, lanes },
    ...tile,
  };
}

/** A product on the device, by pairs. */
async function computePairs(
  product: Product,
  { a, b, more = [], variant = variantOf() }: {
    readonly a: Data;
    readonly b: Data;
    readonly more?: readonly Data[];
    readonly variant?: MatrixVariant;
  },
): Promise<Float32Array> {
  const paired = { ...product, paired: true, variant }, largest: Data[] = [];
  for (const [name, data] of [["a", a], ["b", b]] as const) {
    const { parts, rows } = magnitudesOf(paired, name);
    const [found] = await runKernel(magnitudes(paired, name), {
      inputs: [data],
      outputs: [new Uint32Array(parts * rows)],
      device,
    });
    largest.push(found);
  }
  return compute(paired, { a, b, more: [...more, ...largest], device });
}

/** Sums in f32, one summand after the other. */
function f32Sums({ batch, m, n, k, transposeA, transposeB }: Product, a: Data, b: Data): Float32Array {
  return Float32Array.from({ length: batch * m * n }, (_, at) => {
    const column = at % n, row = Math.floor(at / n) % m, stack = Math.floor(at / (m * n));
    let sum = 0;
    for (let i = 0; i < k; i++) {
      const left = transposeA ? i * m + row : row * k + i,
        right = transposeB ? column * k + i : i * n + column;
      sum = Math.fround(sum + a[stack * m * k + left] * b[stack * k * n + right]);
    }
    return sum;
  });
}

/** The largest error, relative to the lengths of the row and the column that make an element. */
function errorOf(
  product: Product,
  seen: ArrayLike<number>,
  { a, b }: { readonly a: Data; readonly b: Data },
): number {
  const { m, n, k, transposeA, transposeB } = product, exact = definition(product, { a, b });
  const length = (of: (i: number) => number): number =>
    Math.hypot(...Array.from({ length: k }, (_, i) => of(i)));
  const rows = Array.from({ length: m }, (_, r) => length((i) => a[transposeA ? i * m + r : r * k + i]));
  const columns = Array.from({ length: n }, (_, c) => length((i) => b[transposeB ? c * k + i : i * n + c]));
  return exact.reduce((worst, x, at) => {
    const scale = rows[Math.floor(at / n)] * columns[at % n];
    // Not the larger one: that would pass over NaN.
    const error = scale === 0 ? Math.abs(seen[at] - x) : Math.abs(seen[at] - x) / scale;
    return error <= worst ? worst : error;
  }, 0);
}

/** Errors of pairs may be so many times those of sums in f32. */
const TIMES = 4;

async function assertAccurate(
  product: Product,
  { a, b, what, variant }: {
    readonly a: Data;
    readonly b: Data;
    readonly what: string;
    readonly variant?: MatrixVariant;
  },
): Promise<void> {
  const seen = errorOf(product, await computePairs(product, { a, b, variant }), { a, b });
  const single = errorOf(product, f32Sums(product, a, b), { a, b });
  assert(seen <= TIMES * single, `${productKey(product)}, ${what}: ${seen}, and ${single} of sums in f32`);
}

/** Numbers of both signs whose rows, columns or elements differ by many powers of ten. */
const KINDS: Readonly<Record<string, (at: number, width: number) => number>> = {
  "alike": () => 1,
  "rows of different sizes": (at, width) => 10 ** (Math.floor(at / width) * 7 % 37 - 18),
  "columns of different sizes": (at, width) => 10 ** (at % width * 5 % 37 - 18),
  "elements of different sizes": (at) => 10 ** (at * 7919 % 29 - 14),
};

test("pairs of f16 are as accurate as f32 in all layouts, and where numbers are of different sizes", async () => {
  // Each layout takes seconds to compile, and its kinds share that.
  for (const [l, [transposeA, transposeB]] of LAYOUTS.entries()) {
    const [m, n, k] = l % 2 === 0 ? [17, 9, SEGMENT + 21] : [24, 16, 2 * SEGMENT + 24];
    const product = { batch: 1, m, n, k, transposeA, transposeB };
    for (const [what, sizeAt] of Object.entries(KINDS)) {
      const a = values(m * k, 1).map((x, at) => x * sizeAt(at, transposeA ? m : k));
      const b = values(k * n, 2).map((x, at) => x * sizeAt(at, transposeB ? k : n));
      await assertAccurate(product, { a, b, what });
    }
  }
});

test("pairs of f16 are as accurate with larger tiles, shared sums and stacks of products", async () => {
  const [m, n, k] = [40, 24, SEGMENT + 64], sizes = { m, n, k, transposeA: false, transposeB: true };
  const a = values(2 * m * k, 1), b = values(2 * k * n, 2);
  const variant = variantOf({ bm: 4 * unit.m, wm: 2 * unit.m, split: 2 });
  const both = await computePairs({ ...sizes, batch: 2 }, { a, b, variant });
  for (const i of [0, 1]) {
    const part = { a: a.slice(i * m * k, (i + 1) * m * k), b: b.slice(i * k * n, (i + 1) * k * n) };
    const seen = both.slice(i * m * n, (i + 1) * m * n);
    assert(errorOf({ ...sizes, batch: 1 }, seen, part) < 1e-7, `${i}`);
  }
});

test("pairs of f16 reach from the smallest to the largest results of f32, and keep zeros", async () => {
  const [m, n, k] = [8, 8, 16], product = { batch: 1, m, n, k, transposeA: false, transposeB: true };
  const scales = [[1e19, 1e19], [1e-15, 1e-18], [2 ** 127, 2 ** -110], [2 ** -110, 2 ** 126], [0, 1], [
    1e-20,
    1e20,
  ]];
  for (const [left, right] of scales) {
    const a = values(m * k, 1).map((x) => x * left), b = values(k * n, 2).map((x) => x * right);
    await assertAccurate(product, { a, b, what: `${left} x ${right}` });
  }
  const large = new Float32Array(m * k).fill(1e20);
  assertEquals(new Set(await computePairs(product, { a: large, b: large })), new Set([Infinity]));
});

test("pairs of f16 make nothing else infinite or NaN than the rows and columns that hold such numbers", async () => {
  const [m, n, k] = [9, 10, 16], product = { batch: 1, m, n, k, transposeA: false, transposeB: true };
  const a = values(m * k, 1), b = values(k * n, 2), plain = await computePairs(product, { a, b });
  a[3 * k + 5] = Infinity;
  b[7 * k + 2] = NaN;
  const seen = await computePairs(product, { a, b });
  for (const [at, x] of seen.entries()) {
    const lost = Math.floor(at / n) === 3 || at % n === 7;
    assertEquals(lost ? Number.isFinite(x) : x, lost ? false : plain[at], `${at}`);
  }
});

/** What else a product may read: its values as they are stored, and what they become. */
const STORED = {
  bf16: (x: Float32Array<ArrayBuffer>) => [packBf16(toBf16(x)), fromBf16(toBf16(x))],
  half: (x: Float32Array<ArrayBuffer>) => [packBf16(toF16(x)), fromF16(toF16(x))],
  int8: (x: Float32Array<ArrayBuffer>, width: number) => {
    const words = toBlocks(x, { stored: "int8", width });
    return [words, fromBlocks(words, { stored: "int8", width })];
  },
  nf4: (x: Float32Array<ArrayBuffer>, width: number) => {
    const words = toBlocks(x, { stored: "nf4", width });
    return [words, fromBlocks(words, { stored: "nf4", width })];
  },
} as const satisfies Record<string, (x: Float32Array<ArrayBuffer>, width: number) => readonly [Data, Data]>;

test("pairs of f16 are made of weights in fewer bytes", async () => {
  for (const [i, stored] of (["bf16", "half", "int8", "nf4"] as const).entries()) {
    const transposeB = i < 2;
    const [m, n, k] = [20, 72, 136], width = transposeB ? k : n;
    const product = { batch: 1, m, n, k, transposeA: i % 2 === 0, transposeB, storedB: stored };
    const a = values(m * k, 1), [data, b] = STORED[stored](values(k * n, 2), width);
    const seen = errorOf(product, await computePairs(product, { a, b: data }), { a, b });
    assert(seen < 2e-7, `${productKey(product)}: ${seen}`);
  }
});

test("pairs of f16 go through epilogues, limits, padded rows and missing columns", async () => {
  const [m, n, k] = [24, 40, 56], a = values(m * k, 1), b = values(k * n, 2), total = values(m * n, 3);
  const product = { batch: 1, m, n, k, transposeA: false, transposeB: false };
  const exact = definition(product, { a, b });
  const [sums] = [await computePairs(product, { a, b })];
  const epilogue = {
    expression: {
      shape: [m, n],
      inputs: [{ type: "f32" as const, strides: [n, 1] }],
      steps: [
        { kind: "load" as const, input: 0 },
        { kind: "given" as const, name: "acc" },
        { kind: "compute" as const, text: ([x, y]: readonly string[]) => `${x} + ${y}`, args: [0, 1] },
      ],
    },
    outputs: [2],
  };
  const paired = { ...product, paired: true, variant: variantOf(), epilogue };
  const largest: Data[] = [];
  for (const [name, data] of [["a", a], ["b", b]] as const) {
    const { parts, rows } = magnitudesOf(paired, name);
    largest.push(
      (await runKernel(magnitudes(paired, name), {
        inputs: [data],
        outputs: [new Uint32Array(parts * rows)],
        device,
      }))[0],
    );
  }
  const out = await compute(paired, { a, b, more: [...largest, total], device });
  out.forEach((x, i) => assertAlmostEquals(x, exact[i] + total[i], 1e-5, `epilogue ${i}`));
  assertEquals(sums.length, m * n);
  const limited = a.slice().fill(0, 17 * k);
  const ended = await computePairs({ ...product, limit: "m" }, { a: limited, b, more: [Uint32Array.of(17)] });
  definition(product, { a: limited, b }).forEach((x, i) =>
    assertAlmostEquals(ended[i], x, 1e-5, `limit ${i}`)
  );
  const columns = 17, few = b.filter((_, i) => i % n < columns);
  const short = await computePairs({ ...product, columnsB: columns }, { a, b: few });
  exact.forEach((x, i) => i % n < columns && assertAlmostEquals(short[i], x, 1e-5, `columns ${i}`));
});

Deno.test("a pair keeps 22 bits of numbers down to 2^-16 of the largest of their row, and 2^-38 of that otherwise", () => {
  const numbers = values(4000, 5);
  for (const size of [1, 1e-30, 1e30, 2 ** -126, 3e38]) {
    const shift = shiftOf(size);
    assert(2 ** 14 <= size * 2 ** shift && size * 2 ** shift < 2 ** 15 || shift === 126, `${size}: ${shift}`);
    for (const [i, number] of numbers.entries()) {
      const x = Math.fround(number * size * 2 ** -(i % 40)), [first, second] = pair(x, shift);
      const error = Math.abs((first + second) * 2 ** -shift - x);
      const bound = Math.max(Math.abs(x) * 2 ** -22, size * 2 ** -38);
      assert(error <= bound, `${x} of ${size}: ${error} is more than ${bound}`);
    }
  }
  assertEquals(pair(0, shiftOf(0)), [0, 0]);
});

/** A tile of a large GPU, and products that read and write in every way. */
const LARGE = variantOf({ bm: 128, bn: 128, bk: 32, wm: 64, wn: 32, um: 16, un: 16, uk: 16, lanes: 32 });
const TEXTS: readonly Matmul[] = LAYOUTS.flatMap(([transposeA, transposeB]) =>
  (["f32", "bf16", "half", "int8", "nf4"] as const).map((storedB, i): Matmul => ({
    ...{ batch: 2, m: 77, n: 128, k: 136, transposeA, transposeB, storedB, paired: true },
    variant: { ...LARGE, split: i + 1 },
    ...(i === 0 && { epilogue: identityEpilogue([154, 128]) }),
  }))
);

Deno.test({
  name: `products by pairs of f16 are valid WGSL, and fit the workgroup memory that they tell${
    typeof checker === "string" ? ` (not run: ${checker})` : ""
  }`,
  ignore: typeof checker === "string",
  async fn() {
    for (const product of TEXTS) {
      const { code, name } = matmul(product);
      const check = checker as Exclude<typeof checker, string>;
      assertEquals(await check(code), [], name);
      for (const side of ["a", "b"] as const) {
        assertEquals(await check(magnitudes(product, side).code), [], name);
      }
      const [, length, count] = code.match(/array<array<vec4<u32>, (\d+)>, (\d+)>/)!;
      const [, shifts] = code.match(/shifts: array<i32, (\d+)>/)!;
      const bytes = 16 * Number(length) * Number(count) + 4 * Number(shifts);
      assertEquals(bytes, panelBytes(product.variant as MatrixVariant, product));
    }
  },
});
