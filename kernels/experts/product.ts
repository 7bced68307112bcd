/**
 * Products of rows with the matrices of their experts.
 *
 * Legend: P rows, sorted by expert; E experts, K elements of a row, N elements of a result, T tiles.
 *
 * Both kernels compute 64 x 64 results with 256 threads of 4 x 4, from 16 steps of the product at a time in workgroup memory.
 *
 * @module
 */

import { blockedAt, blockedFunctions, blockedReader, isBlocked } from "../blocks.ts";
import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, repeat, storage } from "../kernel.ts";
import { halfAt, halfReader, type Stored } from "../packed.ts";
import { TILE_ROWS, tileCount } from "./order.ts";

/** Sizes of {@link groupedMatmul} and {@link groupedMatmulGrad}. */
export interface GroupedSizes {
  /** Rows P. */
  readonly rows: number;
  /** Experts E. */
  readonly experts: number;
  /** Elements of a result N. */
  readonly n: number;
  /** Elements of a row K. */
  readonly k: number;
}

/** Results on a side of a tile, and steps of the product in memory. */
const SIDE = TILE_ROWS, STEPS = 16;

/** Floats of a step in workgroup memory: more than a side, so that rows begin in different banks. */
const STRIDE = SIDE + 1;

const MEMORY = `var<workgroup> left: array<f32, ${STEPS * STRIDE}>;
var<workgroup> right: array<f32, ${STEPS * STRIDE}>;
`;

/**
 * Loads one operand: each thread four numbers, side by side in storage.
 *
 * @param name The memory
 * @param along Which axis lies side by side in storage
 * @param value WGSL of the number at `step` and `place`
 */
function load(name: string, along: "steps" | "places", value: string): string {
  const [step, place] = along === "steps"
    ? [(j: number) => `(lid % 4u) * 4u + ${j}u`, () => "lid / 4u"]
    : [() => "lid / 16u", (j: number) => `(lid % 16u) * 4u + ${j}u`];
  return repeat(4, (j) =>
    `    { let step = ${step(j)}; let place = ${place(j)};
      ${name}[step * ${STRIDE}u + place] = ${value}; }
`);
}

/** Multiplies what is in memory. */
const MULTIPLY = `    workgroupBarrier();
    for (var step = 0u; step < ${STEPS}u; step += 1u) {
      let at = step * ${STRIDE}u;
      let b = vec4f(${Array.from({ length: 4 }, (_, j) => `right[at + x * 4u + ${j}u]`).join(", ")});
${repeat(4, (i) => `      total${i} += left[at + y * 4u + ${i}u] * b;\n`)}    }
    workgroupBarrier();
`;

const TOTALS = repeat(4, (i) => `  var total${i} = vec4f();\n`);

/** Writes the results of a thread where both indices are within bounds. */
function store(row: (i: number) => string, { end, n }: { readonly end: string; readonly n: number }): string {
  return repeat(4, (i) =>
    `  { let row = ${row(i)};
    if (row < ${end}) {
${
      repeat(
        4,
        (j) =>
          `      if (column + ${j}u < ${n}u) { o0[base + row * ${n}u + column + ${j}u] = total${i}[${j}]; }\n`,
      )
    }    } }
`);
}

/**
 * The product of each row with the matrix of its expert.
 *
 * Bindings: a0 `x[P,K]`, a1 `w[E,K,N]`, or `[E,N,K]` with `transposeB`, a2 `tiles[T,4]` u32 of `expertStarts`; o0 `y[P,N]`.
 *
 * @param sizes Sizes, and how matrices are stored
 * @returns The kernel
 */
export function groupedMatmul(
  { rows, experts, n, k, transposeB, stored = "f32" }: GroupedSizes & {
    readonly transposeB: boolean;
    /** How the matrices are stored; `f32` when absent. */
    readonly stored?: Exclude<Stored, "f16">;
  },
): Kernel {
  const columns = Math.ceil(n / SIDE), tiles = tileCount({ pairs: rows, experts });
  const weight = weightReader({ experts, n, k, transposeB, stored });
  return {
    name: `grouped_matmul ${rows}x${n}x${k} of ${experts} ${transposeB ? "NT" : "NN"}${
      stored === "f32" ? "" : ` ${stored}`
    }`,
    grid: foldGrid(columns * tiles),
    flops: 2 * rows * n * k,
    code: `${storage(["f32", stored === "f32" ? "f32" : "u32", "vec4u"], ["f32"])}${weight.functions}${MEMORY}
@compute @workgroup_size(256) fn main(${GROUP_BUILTINS}) {
  let group = ${GROUP_INDEX};
  if (group >= ${columns * tiles}u) { return; }
  let tile = a2[group / ${columns}u];
  if (tile.y >= tile.z) { return; }
  let corner = (group % ${columns}u) * ${SIDE}u;
  let x = lid % 16u;
  let y = lid / 16u;
${TOTALS}  for (var first = 0u; first < ${k}u; first += ${STEPS}u) {
${
      load(
        "left",
        "steps",
        `select(0.0f, a0[min((tile.y + place) * ${k}u + first + step, ${rows * k - 1}u)], ` +
          `tile.y + place < tile.z && first + step < ${k}u)`,
      )
    }    { let base = tile.x * ${n * k}u;
${
      load(
        "right",
        transposeB ? "steps" : "places",
        `select(0.0f, ${weight.load}, ` +
          `corner + place < ${n}u && first + step < ${k}u)`,
      )
    }    }
${MULTIPLY}  }
  let column = corner + x * 4u;
  let base = 0u;
${store((i) => `tile.y + y * 4u + ${i}u`, { end: "tile.z", n })}}
`,
  };
}

/** How a thread reads an element of the matrix at `base`. */
function weightReader(
  { experts, n, k, transposeB, stored }: Omit<GroupedSizes, "rows"> & {
    readonly transposeB: boolean;
    readonly stored: Exclude<Stored, "f16">;
  },
): { readonly functions: string; readonly load: string } {
  const [row, column, width] = transposeB
    ? ["(corner + place)", "first + step", k]
    : ["(first + step)", "corner + place", n];
  if (isBlocked(stored)) {
    const flat = `min(tile.x * ${n * k / width}u + ${row}, ${experts * n * k / width - 1}u)`;
    return {
      functions: blockedFunctions(stored) + blockedReader(stored, { name: "a1", width }),
      load: blockedAt("a1", flat, `min(${column}, ${width - 1}u)`),
    };
  }
  const index = `min(base + ${row} * ${width}u + ${column}, ${experts * n * k - 1}u)`;
  return stored === "f32"
    ? { functions: "", load: `a1[${index}]` }
    : { functions: halfReader("a1", stored), load: halfAt("a1", index) };
}

/**
 * The gradient of {@link groupedMatmul} by the matrices: of each expert the sum over its rows of products of their elements.
 * An expert without rows gets zeros.
 *
 * Bindings: a0 `a[P,N]`, a1 `b[P,K]`, a2 `groups[E+1]` u32 of `expertStarts`; o0 `w[E,N,K]`.
 *
 * @param sizes Sizes
 * @returns The kernel
 */
export function groupedMatmulGrad({ rows, experts, n, k }: GroupedSizes): Kernel {
  const down = Math.ceil(n / SIDE), across = Math.ceil(k / SIDE), tiles = down * across;
  return {
    name: `grouped_matmul_grad ${rows}x${n}x${k} of ${experts}`,
    grid: foldGrid(experts * tiles),
    flops: 2 * rows * n * k,
    code: `${storage(["f32", "f32", "u32"], ["f32"])}${MEMORY}
@compute @workgroup_size(256) fn main(${GROUP_BUILTINS}) {
  let group = ${GROUP_INDEX};
  if (group >= ${experts * tiles}u) { return; }
  let expert = group / ${tiles}u;
  let tile = group % ${tiles}u;
  let fromN = (tile / ${across}u) * ${SIDE}u;
  let fromK = (tile % ${across}u) * ${SIDE}u;
  let end = a2[expert + 1u];
  let x = lid % 16u;
  let y = lid / 16u;
${TOTALS}  for (var first = a2[expert]; first < end; first += ${STEPS}u) {
${
      load(
        "left",
        "places",
        `select(0.0f, a0[min((first + step) * ${n}u + fromN + place, ${rows * n - 1}u)], ` +
          `first + step < end && fromN + place < ${n}u)`,
      )
    }${
      load(
        "right",
        "places",
        `select(0.0f, a1[min((first + step) * ${k}u + fromK + place, ${rows * k - 1}u)], ` +
          `first + step < end && fromK + place < ${k}u)`,
      )
    }${MULTIPLY}  }
  let column = fromK + x * 4u;
  let base = expert * ${n * k}u;
${store((i) => `fromN + y * 4u + ${i}u`, { end: `${n}u`, n: k })}}
`,
  };
}
