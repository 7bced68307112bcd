/**
 * Attention on matrix units: the texts are checked wherever Dawn may be loaded, the results where a driver has such units.
 *
 * @module
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { fromF16, toF16 } from "../../core/data/floats.ts";
import { attentionGradKV, attentionGradQ } from "../../kernels/attention/backward.ts";
import { attention } from "../../kernels/attention/forward.ts";
import type { AttentionShape, MatrixTiling } from "../../kernels/attention/frame.ts";
import { attentionTiling } from "../../kernels/attention/tiling.ts";
import { attentionRanges, attentionRows } from "../../kernels/attention/visibility.ts";
import type { MatrixUnit } from "../../kernels/matrix_unit.ts";
import type { Limits } from "./attention_options.ts";
import { randomCase } from "./attention_options.ts";
import { addHeads, arrays, reference } from "./attention_reference.ts";
import { matrixDevice, textChecker } from "./matrix_device.ts";
import { blank, type Data, runKernel } from "./run_kernel.ts";

const opened = await matrixDevice(), checker = await textChecker();
const F16_UNIT = { operands: "f16", sums: "f32" } as const;
const { device, unit, lanes } = typeof opened === "string"
  ? { device: undefined, unit: { m: 8, n: 8, k: 8, ...F16_UNIT }, lanes: 8 }
  : opened;
const results = typeof opened === "string"
  ? { ignore: true, why: ` (not run: ${opened})` }
  : { ignore: false, why: "" };

/** The units of an NVIDIA GPU, as its driver lists them. */
const UNITS: readonly MatrixUnit[] = [{ m: 16, n: 8, k: 16 }, { m: 16, n: 16, k: 16 }].map((size) => ({
  ...size,
  ...F16_UNIT,
}));
const NVIDIA = {
  software: false,
  subgroups: true,
  wideSubgroups: true,
  workgroupBytes: 49152,
  subgroupSize: 32,
  matrices: UNITS,
};
const PASSES = ["forward", "gradQ", "gradKV"] as const;
const OPERANDS = ["a0", "a1", "a2", "a3"];

/** Small tiles and heads: a software driver compiles the texts of larger ones for a minute. */
const SMALL: MatrixTiling = { unit, lanes, subgroups: 2, high: 1, buffers: 2, held: true };
const TILE = unit.k * lanes / unit.m;

interface Case {
  readonly title: string;
  readonly shape: AttentionShape;
  readonly matrix?: Partial<MatrixTiling>;
  readonly grouped?: boolean;
  /** Whether only the forward kernel runs: others of larger heads take a minute to compile. */
  readonly forward?: boolean;
}

const SHAPE = { batch: 1, time: 37, heads: 1, kvHeads: 1, dim: 8, scale: 0.4, causal: true };
const CASES: readonly Case[] = [
  {
    title: "two query heads a key head, causal",
    shape: { ...SHAPE, heads: 2 },
    grouped: true,
  },
  {
    title: "one tile in memory, own rows in memory, a window of 9 after 21 earlier keys, two sequences",
    shape: { ...SHAPE, batch: 2, keys: 58, window: 9 },
    matrix: { buffers: 1, held: false },
  },
  {
    title: "all keys visible, a cap",
    shape: { ...SHAPE, keys: 51, causal: false, softCap: 3, scale: 1 },
  },
  {
    title: "scores that rise by hundreds from tile to tile, dim 16, forward",
    shape: { ...SHAPE, heads: 2, kvHeads: 2, keys: 70, scale: 60, dim: 16 },
    forward: true,
  },
];

/** Throws unless the largest error is within what operands of f16 give. */
function assertNear(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  assertEquals(actual.length, expected.length, what);
  const largest = Math.max(...Array.from(expected, Math.abs)), tolerance = 2e-3 * largest;
  for (let i = 0; i < actual.length; i++) {
    const fits = Math.abs(actual[i] - expected[i]) <= tolerance;
    assert(fits, `${what}: element ${i} of ${actual.length} is ${actual[i]}, expected ${expected[i]}`);
  }
}

/** Runs all kernels and compares them with their definitions. */
async function compare(
  { shape, matrix, grouped = false, forward = false }: Case,
  limits: Limits | null = null,
): Promise<void> {
  const codes = Object.fromEntries(Object.entries(arrays(shape)).map(([name, x]) => [name, toF16(x)]));
  const { q, k, v, dOut } = codes;
  const [q32, k32, v32, dOut32] = [q, k, v, dOut].map(fromF16);
  const expected = reference(shape, { q: q32, k: k32, v: v32, dOut: dOut32 }, limits?.sees);
  const options = { ...shape, tile: TILE, matrix: { ...SMALL, ...matrix }, f16: OPERANDS };
  const run = <O extends readonly Data[]>(
    kernel: Parameters<typeof runKernel>[0],
    inputs: readonly Data[],
    outputs: O,
  ) => runKernel(kernel, { inputs, outputs, device });
  const ranges: readonly Data[] = limits === null ? [] : await run(
    attentionRanges(limits.options),
    limits.inputs,
    [new Int32Array(shape.batch * shape.time * 2)] as const,
  );
  const { length } = expected.lse;
  const [out, lse] = await run(attention({ ...options, f16: [...OPERANDS, "o0"] }), [q, k, v, ...ranges], [
    new Uint16Array(expected.out.length),
    blank(length),
  ]);
  assertNear(fromF16(out as Uint16Array), expected.out, "out");
  assertNear(lse, expected.lse, "lse");
  if (forward) return;
  const numbers = [expected.lse, expected.delta].map((x) => Float32Array.from(x));
  const joined: readonly Data[] = limits === null ? numbers : await run(
    attentionRows({ rows: length, heads: shape.heads, ranges: true }),
    [...numbers, ...ranges],
    [blank(4 * length)] as const,
  );
  const inputs = [q, k, v, dOut, ...joined];
  const [dq] = await run(attentionGradQ(options), inputs, [blank(expected.dq.length)]);
  assertNear(dq, expected.dq, "dq");
  const size = expected.dk.length * (grouped ? 1 : shape.heads / shape.kvHeads);
  const all = { ...options, outputs: { k: true, v: true }, grouped };
  const both = await run(attentionGradKV(all), inputs, [blank(size), blank(size)]);
  const [dk, dv] = grouped ? both : both.map((x) => addHeads(shape, x));
  assertNear(dk, expected.dk, "dk");
  assertNear(dv, expected.dv, "dv");
}

for (const one of CASES) {
  Deno.test({
    name: `attention on matrix units equals its definition: ${one.title}${results.why}`,
    ignore: results.ignore,
    fn: () => compare(one),
  });
}

for (const seed of [2, 34]) {
  const { title, shape: { bias: _, ...shape }, limits } = randomCase(seed);
  Deno.test({
    name: `attention on matrix units equals its definition: random case ${title}${results.why}`,
    ignore: results.ignore,
    fn: () => compare({ title, shape: { ...shape, dim: 8 }, grouped: seed === 2 }, limits),
  });
}

Deno.test({
  name:
    `attention on matrix units makes a gradient by keys or values alone, and shows an overflow${results.why}`,
  ignore: results.ignore,
  async fn() {
    const shape = { ...SHAPE, time: 20 },
      { q, k, v, dOut } = arrays(shape),
      codes = [q, k, v, dOut].map(toF16);
    const [q32, k32, v32, dOut32] = codes.map(fromF16);
    const expected = reference(shape, { q: q32, k: k32, v: v32, dOut: dOut32 });
    const numbers = [expected.lse, expected.delta].map((x) => Float32Array.from(x));
    const options = { ...shape, tile: TILE, matrix: SMALL, f16: OPERANDS };
    const outputs = [blank(expected.dk.length)];
    const keys = attentionGradKV({ ...options, outputs: { k: true, v: false } });
    const [dk] = await runKernel(keys, { inputs: [...codes, ...numbers], outputs, device });
    assertNear(dk, expected.dk, "dk");
    const values = attentionGradKV({ ...options, f16: ["a0", "a1", "a2"], outputs: { k: false, v: true } });
    const [dv] = await runKernel(values, {
      inputs: [codes[0], codes[1], codes[3], numbers[0]],
      outputs,
      device,
    });
    assertNear(dv, expected.dv, "dv");
    // Products of the gradient and values are beyond f16: loss scaling must see it.
    const large = [codes[0], codes[1], toF16(v.map((x) => 3e4 * x)), toF16(dOut.map((x) => 3e4 * x))];
    const [infinite] = await runKernel(keys, { inputs: [...large, ...numbers], outputs, device });
    assert(infinite.some((x) => !Number.isFinite(x)));
  },
});

Deno.test({
  name: `texts of attention on matrix units are valid for Tint in every recommended tiling${
    typeof checker === "string" ? ` (not run: ${checker})` : ""
  }`,
  ignore: typeof checker === "string",
  async fn() {
    if (typeof checker === "string") return;
    const shape = { ...SHAPE, time: 70, keys: 90, heads: 6, kvHeads: 2 };
    for (const matrices of [UNITS, [{ m: 8, n: 8, k: 8, ...F16_UNIT }]]) {
      const adapter = { ...NVIDIA, matrices, subgroupSize: 2 * matrices[0].m, half: true };
      // Few rows and many have tilings of their own.
      for (const [i, dim] of [16, 40, 64, 80, 128, 16, 40, 64, 80, 128].entries()) {
        const more = {
          dim,
          batch: i < 5 ? 1 : 1000,
          ranges: i % 2 === 0,
          softCap: i % 3 === 0 ? 30 : undefined,
        };
        const [forward, gradQ, gradKV] = PASSES.map((pass) => {
          const tiling = attentionTiling({ ...shape, ...more }, { ...adapter, pass });
          assert(tiling.matrix !== undefined, `dim ${dim}, ${pass}`);
          return { ...shape, ...more, ...tiling, f16: [...OPERANDS, "o0"] };
        });
        for (
          const kernel of [
            attention(forward),
            attentionGradQ(gradQ),
            attentionGradKV({ ...gradKV, outputs: { k: true, v: true }, grouped: dim === 64 }),
          ]
        ) assertEquals(await checker(kernel.code), [], `${kernel.name}, dim ${dim}`);
      }
    }
  },
});

Deno.test("attentionTiling takes matrix units for rows of f16 and sizes that fit them, else threads multiply", () => {
  const shape = { ...SHAPE, time: 1024, heads: 12, dim: 64 };
  const isOnMatrices = (
    more: Partial<AttentionShape>,
    adapter: Partial<typeof NVIDIA & { half: boolean }> = {},
  ) =>
    PASSES.map((pass) =>
      attentionTiling({ ...shape, ...more }, { ...NVIDIA, half: true, ...adapter, pass }).matrix !== undefined
    );
  const [all, none] = [[true, true, true], [false, false, false]];
  for (const dim of [8, 16, 24, 32, 48, 64, 72, 80, 96, 112, 128]) {
    assertEquals(isOnMatrices({ dim }), all, `${dim}`);
  }
  for (const dim of [4, 36, 136, 256]) assertEquals(isOnMatrices({ dim }), none, `${dim}`);
  assertEquals(isOnMatrices({ time: 1, keys: 1024 }), none);
  assertEquals(isOnMatrices({ bias: [1, 12, 1024, 1024] }), none);
  assertEquals(isOnMatrices({}, { half: false }), none);
  assertEquals(isOnMatrices({}, { matrices: [] }), none);
  assertEquals(isOnMatrices({}, { subgroupSize: 128 }), none);
});

Deno.test("attention refuses matrix units for sizes and storage that they cannot multiply", () => {
  const options = { ...SHAPE, tile: TILE, matrix: SMALL, f16: OPERANDS };
  assertThrows(() => attention({ ...options, f16: ["a0", "a1"] }), RangeError, "f16");
  assertThrows(() => attention({ ...options, dim: 12 }), RangeError, "dim");
  assertThrows(() => attention({ ...options, bias: [1, 1, 1, 37] }), RangeError, "bias");
  assertThrows(() => attention({ ...options, tile: TILE + 4 }), RangeError, "tile");
  assertThrows(() => attention({ ...options, matrix: { ...SMALL, lanes: 64 } }), RangeError, "row");
  const threads = { ...SHAPE, tile: 0, outputs: { k: true, v: true } };
  assertThrows(() => attentionGradKV({ ...threads, grouped: true }), RangeError, "grouped");
});
