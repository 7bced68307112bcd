/**
 * Matrix products from one description: layouts, tiles, epilogue.
 *
 * @module
 */

import { type Expression, render } from "./expression.ts";
import { GROUP_BUILTINS, type Kernel, repeat } from "./kernel.ts";

/**
 * How a product is cut up.
 *
 * - `direct`: each thread computes `tm x tn` elements straight from storage. Best where threads are CPU lanes.
 * - `tiled`: a workgroup computes `bm x bn` from tiles of depth `bk` in workgroup memory, `tm x tn` a thread.
 */
export type MatmulVariant =
  | { readonly kind: "direct"; readonly tm: number; readonly tn: number }
  | {
    readonly kind: "tiled";
    readonly bm: number;
    readonly bn: number;
    readonly bk: number;
    readonly tm: number;
    readonly tn: number;
  };

/** What is done to each element before it is stored. */
export interface Epilogue {
  /** Over `[batch * m, n]`; its `given` step named `acc` is the product. */
  readonly expression: Expression;
  /** Step numbers to store, one array each. */
  readonly outputs: readonly number[];
}

/** A product `[batch, m, k] x [batch, k, n]`. */
export interface Matmul {
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly transposeA: boolean;
  readonly transposeB: boolean;
  readonly variant: MatmulVariant;
  readonly epilogue?: Epilogue;
}

const STORE: Epilogue = {
  expression: { shape: [], inputs: [], steps: [{ kind: "given", name: "acc" }] },
  outputs: [0],
};

/**
 * The kernel of a product. Bindings: A, B, inputs of the epilogue, outputs.
 *
 * @param product Sizes, layouts and variant; any size is legal
 * @returns The kernel
 */
export function matmul(product: Matmul): Kernel {
  return product.variant.kind === "direct" ? direct(product, product.variant) : tiled(product, product.variant);
}

/** One operand as the generators see it: `size` rows or columns, `k` deep. */
interface Side {
  readonly name: string;
  readonly size: number;
  readonly k: number;
  /** Whether neighbours along k are neighbours in memory. */
  readonly kContiguous: boolean;
  /** Whether groups of four along the contiguous direction can be loaded at once. */
  readonly wide: boolean;
}

function sides({ m, n, k, transposeA, transposeB }: Matmul): [Side, Side] {
  const side = (name: string, size: number, kContiguous: boolean): Side => ({
    name,
    size,
    k,
    kContiguous,
    wide: (kContiguous ? k : size) % 4 === 0,
  });
  return [side("a", m, !transposeA), side("b", n, transposeB)];
}

/** Declarations, and the text that stores a thread's block of accumulators `c{i}_{j}`. */
function frame(product: Matmul, [a, b]: readonly [Side, Side]): {
  readonly declarations: string;
  store(row: (i: number) => string, column: (j: number) => string, block: { rows: number; quads: number }): string;
} {
  const { m, n, batch } = product;
  const { expression, outputs } = product.epilogue ?? STORE;
  const shaped = product.epilogue === undefined ? { ...expression, shape: [batch * m, n] } : expression;
  const rendering = render(shaped, { lanes: n % 4 === 0 ? 4 : 1, inputName: "e" });
  const { lanes, types } = rendering;
  const all = [
    `var<storage, read> a: array<${a.wide ? "vec4<f32>" : "f32"}>;`,
    `var<storage, read> b: array<${b.wide ? "vec4<f32>" : "f32"}>;`,
    ...types.map((t, k) => `var<storage, read> e${k}: array<${t}>;`),
    ...outputs.map((_, k) => `var<storage, read_write> o${k}: array<${lanes === 4 ? "vec4<f32>" : "f32"}>;`),
  ];
  const put = (index: string, value: string): string =>
    `{ let i = ${index}; let acc = ${value};\n${rendering.body("i")}\n${
      outputs.map((step, k) => `o${k}[i] = v${step};`).join(" ")
    } }`;
  return {
    declarations: all.map((d, i) => `@group(0) @binding(${i}) ${d}`).join("\n"),
    store(row, column, { rows, quads }) {
      let text = "";
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < quads; j++) {
          const base = `(z * ${m}u + ${row(i)}) * ${n}u + ${column(j)}`;
          if (lanes === 4) {
            text += `if (${row(i)} < ${m}u && ${column(j)} < ${n}u) ${put(`(${base}) / 4u`, `c${i}_${j}`)}\n`;
            continue;
          }
          text += repeat(
            4,
            (c) => `if (${row(i)} < ${m}u && ${column(j)} + ${c}u < ${n}u) ${put(`${base} + ${c}u`, `c${i}_${j}.${"xyzw"[c]}`)}\n`,
          );
        }
      }
      return text;
    },
  };
}

const accumulators = (rows: number, quads: number): string =>
  repeat(rows, (i) => repeat(quads, (j) => `var c${i}_${j} = vec4<f32>();\n`));

/** Four elements along k of one row, or four rows at one k, as a vec4; zero beyond the end. */
function scalarQuad(side: Side, at: (c: number) => { o: string; k: string }): string {
  const one = (c: number): string => {
    const { o, k } = at(c);
    const index = side.kContiguous ? `(${o}) * ${side.k}u + ${k}` : `(${k}) * ${side.size}u + ${o}`;
    return `select(0.0f, ${side.name}[z${side.name} + ${index}], (${o}) < ${side.size}u && (${k}) < ${side.k}u)`;
  };
  return `vec4<f32>(${[0, 1, 2, 3].map(one).join(", ")})`;
}

/** Batch offsets of both operands, in the units of their arrays. */
function batchOffsets(product: Matmul, pair: readonly Side[]): string {
  return pair.map((s) => {
    const stride = s.size * s.k / (s.wide ? 4 : 1);
    return product.batch === 1 ? `let z${s.name} = 0u;` : `let z${s.name} = z * ${stride}u;`;
  }).join(" ");
}

function direct(product: Matmul, { tm, tn }: { readonly tm: number; readonly tn: number }): Kernel {
  const { batch, m, n, k } = product;
  const [a, b] = sides(product);
  const { declarations, store } = frame(product, [a, b]);
  const columns = Math.ceil(n / tn), rows = Math.ceil(m / tm);

  /** Loads `count` rows (or columns) for k0..k0+3: afterwards `{name}{o}_{kk}` is the quad of rows 4o..4o+3 at k0+kk. */
  const load = (side: Side, origin: string, count: number): string => {
    const quads = count / 4;
    if (!side.kContiguous) {
      return repeat(4, (kk) =>
        repeat(quads, (q) =>
          `let ${side.name}${q}_${kk} = ${
            side.wide
              ? `a0[z + (k0 + ${kk}u) * ${side.size / 4}u + min(${origin} / 4u + ${q}u, ${side.size / 4 - 1}u)]`
                .replace("a0[z", `${side.name}[z${side.name}`)
              : scalarQuad(side, (c) => ({ o: `${origin} + ${4 * q + c}u`, k: `k0 + ${kk}u` }))
          };\n`));
    }
    const rowText = (o: number): string =>
      side.wide
        ? `${side.name}[z${side.name} + min(${origin} + ${o}u, ${side.size - 1}u) * ${side.k / 4}u + k0 / 4u]`
        : scalarQuad(side, (c) => ({ o: `${origin} + ${o}u`, k: `k0 + ${c}u` }));
    return repeat(count, (o) => `let ${side.name}r${o} = ${rowText(o)};\n`) +
      repeat(4, (kk) =>
        repeat(quads, (q) =>
          `let ${side.name}${q}_${kk} = vec4<f32>(${
            [0, 1, 2, 3].map((c) => `${side.name}r${4 * q + c}.${"xyzw"[kk]}`).join(", ")
          });\n`));
  };
  // Rows beyond a k-deep wide operand that is not k-contiguous must read zero.
  const guard = (side: Side): string =>
    !side.kContiguous && side.wide && k % 4 !== 0
      ? repeat(4, (kk) =>
        repeat((side.name === "a" ? tm : tn) / 4, (q) =>
          `let ${side.name}g${q}_${kk} = select(vec4<f32>(), ${side.name}${q}_${kk}, k0 + ${kk}u < ${k}u);\n`))
      : "";
  const guarded = (side: Side): string => guard(side) === "" ? side.name : `${side.name}g`;
  const inner = repeat(4, (kk) =>
    repeat(tm, (i) =>
      repeat(tn / 4, (j) =>
        `c${i}_${j} += ${guarded(a)}${i >> 2}_${kk}.${"xyzw"[i & 3]} * ${guarded(b)}${j}_${kk};\n`)));
  const code = `${declarations}
@compute @workgroup_size(64) fn main(${GROUP_BUILTINS}) {
let t = wid.x * 64u + lid;
if (t >= ${columns * rows}u) { return; }
let z = wid.z;
${batchOffsets(product, [a, b])}
let n0 = (t % ${columns}u) * ${tn}u;
let m0 = (t / ${columns}u) * ${tm}u;
${accumulators(tm, tn / 4)}
for (var k0 = 0u; k0 < ${k}u; k0 += 4u) {
${load(a, "m0", tm)}${load(b, "n0", tn)}${guard(a)}${guard(b)}${inner}}
${store((i) => `(m0 + ${i}u)`, (j) => `(n0 + ${4 * j}u)`, { rows: tm, quads: tn / 4 })}
}`;
  const name = `matmul ${label(product)} direct ${tm}x${tn}`;
  return { name, code, grid: [Math.ceil(columns * rows / 64), 1, batch], flops: 2 * batch * m * n * k };
}

function tiled(product: Matmul, variant: Extract<MatmulVariant, { kind: "tiled" }>): Kernel {
  const { bm, bn, bk, tm, tn } = variant;
  const { batch, m, n, k } = product;
  const [a, b] = sides(product);
  const { declarations, store } = frame(product, [a, b]);
  const across = bn / tn, threads = (bm / tm) * across;

  /** Fills `{name}s[kk * size/4 + quad]`, quads along m or n. */
  const load = (side: Side, origin: string, width: number): { fetch: string; keep: string } => {
    const quads = width / 4, tile = `${side.name}s`;
    if (side.kContiguous && side.wide) {
      // Four rows by four k: loaded along k, stored along the rows.
      const blocks = quads * (bk / 4), turns = Math.ceil(blocks / threads);
      const id = (l: number): string => `(lid + ${l * threads}u)`;
      const inside = (l: number): string => blocks % threads === 0 ? "" : `if (${id(l)} < ${blocks}u) `;
      const kq = (l: number): string => `(${id(l)} / ${quads}u)`, q = (l: number): string => `(${id(l)} % ${quads}u)`;
      const fetch = repeat(turns, (l) =>
        repeat(4, (r) => {
          const row = `min(${origin} + ${q(l)} * 4u + ${r}u, ${side.size - 1}u)`;
          const text = `${side.name}[z${side.name} + ${row} * ${k / 4}u + k0 / 4u + ${kq(l)}]`;
          const safe = k % bk === 0 ? text : `select(vec4<f32>(), ${text}, k0 + ${kq(l)} * 4u < ${k}u)`;
          return `let ${side.name}p${l}_${r} = ${safe};\n`;
        }));
      const keep = repeat(turns, (l) =>
        inside(l) + "{\n" +
        repeat(4, (c) =>
          `${tile}[(${kq(l)} * 4u + ${c}u) * ${quads}u + ${q(l)}] = vec4<f32>(${
            [0, 1, 2, 3].map((r) => `${side.name}p${l}_${r}.${"xyzw"[c]}`).join(", ")
          });\n`) +
        "}\n");
      return { fetch, keep };
    }
    const slots = quads * bk, turns = Math.ceil(slots / threads);
    const id = (l: number): string => `(lid + ${l * threads}u)`;
    const kk = (l: number): string => `(k0 + ${id(l)} / ${quads}u)`;
    const o = (l: number): string => `(${origin} + (${id(l)} % ${quads}u) * 4u)`;
    const fetch = repeat(turns, (l) => {
      if (!side.wide) return `let ${side.name}p${l} = ${scalarQuad(side, (c) => ({ o: `${o(l)} + ${c}u`, k: kk(l) }))};\n`;
      const text = `${side.name}[z${side.name} + ${kk(l)} * ${side.size / 4}u + min(${o(l)} / 4u, ${side.size / 4 - 1}u)]`;
      return `let ${side.name}p${l} = ${k % bk === 0 ? text : `select(vec4<f32>(), ${text}, ${kk(l)} < ${k}u)`};\n`;
    });
    const keep = repeat(turns, (l) =>
      `${slots % threads === 0 ? "" : `if (${id(l)} < ${slots}u) `}{ ${tile}[${id(l)}] = ${side.name}p${l}; }\n`);
    return { fetch, keep };
  };
  const la = load(a, "m0", bm), lb = load(b, "n0", bn);
  const inner = repeat(bk, (kk) =>
    "{\n" + repeat(tm / 4, (i) => `let x${i} = as_[${kk * bm / 4}u + ty * ${tm / 4}u + ${i}u];\n`) +
    repeat(tn / 4, (j) => `let y${j} = bs[${kk * bn / 4}u + tx + ${j * across}u];\n`) +
    repeat(tm, (i) =>
      repeat(tn / 4, (j) => `c${i}_${j} = fma(vec4<f32>(x${i >> 2}.${"xyzw"[i & 3]}), y${j}, c${i}_${j});\n`)) +
    "}\n");
  const code = `${declarations}
var<workgroup> as_: array<vec4<f32>, ${bk * bm / 4}>;
var<workgroup> bs: array<vec4<f32>, ${bk * bn / 4}>;
@compute @workgroup_size(${threads}) fn main(${GROUP_BUILTINS}) {
let z = wid.z;
${batchOffsets(product, [a, b])}
let tx = lid % ${across}u;
let ty = lid / ${across}u;
let m0 = wid.y * ${bm}u;
let n0 = wid.x * ${bn}u;
${accumulators(tm, tn / 4)}
for (var k0 = 0u; k0 < ${k}u; k0 += ${bk}u) {
${la.fetch}${lb.fetch}${la.keep.replaceAll("as[", "as_[")}${lb.keep}workgroupBarrier();
${inner}workgroupBarrier();
}
${store((i) => `(m0 + ty * ${tm}u + ${i}u)`, (j) => `(n0 + (tx + ${j * across}u) * 4u)`, { rows: tm, quads: tn / 4 })}
}`;
  const name = `matmul ${label(product)} tiled ${bm}x${bn}x${bk}`;
  return { name, code, grid: [Math.ceil(n / bn), Math.ceil(m / bm), batch], flops: 2 * batch * m * n * k };
}

function label({ batch, m, n, k, transposeA, transposeB }: Matmul): string {
  return `${batch === 1 ? "" : `${batch}x`}${m}x${n}x${k} ${transposeA ? "T" : "N"}${transposeB ? "T" : "N"}`;
}

/**
 * A variant that suits a product, without measuring.
 *
 * @param product Its sizes
 * @param options `software`: the adapter is a CPU
 * @returns The variant
 */
export function chooseMatmul(
  { batch, m, n }: { readonly batch: number; readonly m: number; readonly n: number },
  options: { readonly software: boolean },
): MatmulVariant {
  if (options.software) {
    return { kind: "direct", tm: m >= 8 ? 8 : 4, tn: n >= 8 ? 8 : 4 };
  }
  const tiles = (bm: number, bn: number): number => batch * Math.ceil(m / bm) * Math.ceil(n / bn);
  if (tiles(128, 128) >= 200) return { kind: "tiled", bm: 128, bn: 128, bk: 16, tm: 8, tn: 8 };
  if (tiles(64, 64) >= 96) return { kind: "tiled", bm: 64, bn: 64, bk: 16, tm: 8, tn: 4 };
  return { kind: "tiled", bm: 32, bn: 32, bk: 16, tm: 4, tn: 4 };
}
