/**
 * Matrix products from one description: layouts, tiles, epilogue.
 *
 * @module
 */

import { type Expression, render } from "./expression.ts";
import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, repeat } from "./kernel.ts";

/**
 * How a product is cut up.
 *
 * - `direct`: eight lanes compute `tm x 8 tn` elements straight from storage; with `subgroups` each lane loads another
 *   element of A and broadcasts it. Best where lanes are those of a CPU's vector registers.
 * - `tiled`: a workgroup computes `bm x bn` from tiles of depth `bk` in workgroup memory, `tm x tn` a thread.
 */
export type MatmulVariant =
  | { readonly kind: "direct"; readonly tm: number; readonly tn: number; readonly subgroups: boolean }
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
  /** Products, one after the other in memory. */
  readonly batch: number;
  /** Rows of the product. */
  readonly m: number;
  /** Columns of the product. */
  readonly n: number;
  /** Length of the sums. */
  readonly k: number;
  /** A is stored as [batch, k, m]. */
  readonly transposeA: boolean;
  /** B is stored as [batch, n, k]. */
  readonly transposeB: boolean;
  /** How it is cut up. */
  readonly variant: MatmulVariant;
  /** What is done before storing; the product is stored as it is when absent. */
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
  return product.variant.kind === "direct"
    ? direct(product, product.variant)
    : tiled(product, product.variant);
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

/**
 * Declarations, and the text that stores a thread's block of accumulators `c{i}_{j}`: quads of a row where `lanes` is
 * 4, elements where it is 1.
 */
function frame(
  product: Matmul,
  { pair: [a, b], lanes: wanted }: { pair: readonly [Side, Side]; lanes: 1 | 4 },
): {
  readonly declarations: string;
  store(
    row: (i: number) => string,
    column: (j: number) => string,
    block: { rows: number; columns: number },
  ): string;
} {
  const { m, n, batch } = product;
  const { expression, outputs } = product.epilogue ?? STORE;
  const shaped = product.epilogue === undefined ? { ...expression, shape: [batch * m, n] } : expression;
  const rendering = render(shaped, { lanes: n % 4 === 0 ? wanted : 1, inputName: "e" });
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
    store(row, column, { rows, columns }) {
      const one = (i: number, j: number): string => {
        const base = `(z * ${m}u + ${row(i)}) * ${n}u + ${column(j)}`;
        const inside = (c: number): string => `if (${row(i)} < ${m}u && ${column(j)} + ${c}u < ${n}u)`;
        if (lanes === wanted) {
          return `${inside(0)} ${put(lanes === 4 ? `(${base}) / 4u` : base, `c${i}_${j}`)}\n`;
        }
        return repeat(4, (c) => `${inside(c)} ${put(`${base} + ${c}u`, `c${i}_${j}.${"xyzw"[c]}`)}\n`);
      };
      return repeat(rows, (i) => repeat(columns, (j) => one(i, j)));
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

/** Lanes of a workgroup of the direct variant, and the elements along k that they load at once. */
const LANES = 8;

function direct(product: Matmul, { tm, tn, subgroups }: Extract<MatmulVariant, { kind: "direct" }>): Kernel {
  const { batch, m, n, k } = product;
  const [a, b] = sides(product).map((side) => ({ ...side, wide: false })) as [Side, Side];
  const { declarations, store } = frame(product, { pair: [a, b], lanes: 1 });
  const across = Math.ceil(n / (LANES * tn));
  const element = (side: Side, o: string, at: string): string =>
    side.kContiguous
      ? `${side.name}[z${side.name} + ${o} * ${k}u + ${at}]`
      : `${side.name}[z${side.name} + (${at}) * ${side.size}u + ${o}]`;
  const row = (i: number): string => `min(m0 + ${i}u, ${m - 1}u)`;
  const column = (j: number): string => `min(n0 + ${LANES * j}u, ${n - 1}u)`;
  /** `depth` products along k, from `k0` on. A lane loads what lies nearest: another k, or another row. */
  const block = (depth: number): string => {
    const alongK = a.kContiguous;
    const rows = !subgroups || !alongK
      ? ""
      : repeat(tm, (i) => `let s${i} = ${element(a, row(i), `min(k0 + lid, ${k - 1}u)`)};\n`);
    const one = (q: number): string => {
      const lanes = !subgroups || alongK ? "" : repeat(Math.ceil(tm / LANES), (g) => {
        return `let s${g} = ${element(a, `min(m0 + ${LANES * g}u + lid, ${m - 1}u)`, `k0 + ${q}u`)};\n`;
      });
      const shared = (i: number): string =>
        !subgroups
          ? element(a, row(i), `k0 + ${q}u`)
          : alongK
          ? `subgroupBroadcast(s${i}, ${q}u)`
          : `subgroupBroadcast(s${Math.floor(i / LANES)}, ${i % LANES}u)`;
      return `{\n${lanes}${repeat(tn, (j) => `let y${j} = ${element(b, column(j), `k0 + ${q}u`)};\n`)}${
        repeat(tm, (i) =>
          `let x${i} = ${shared(i)};\n${
            repeat(tn, (j) => `c${i}_${j} = fma(x${i}, y${j}, c${i}_${j});\n`)
          }`)
      }}\n`;
    };
    return rows + repeat(depth, one);
  };
  const whole = k - k % LANES;
  const code = `${declarations}
@compute @workgroup_size(${LANES}) fn main(${GROUP_BUILTINS}) {
let z = wid.z;
${batchOffsets(product, [a, b])}
let group = ${GROUP_INDEX};
let m0 = (group / ${across}u) * ${tm}u;
let n0 = (group % ${across}u) * ${LANES * tn}u + lid;
if (m0 >= ${m}u) { return; }
${repeat(tm, (i) => repeat(tn, (j) => `var c${i}_${j} = 0.0f;\n`))}
for (var k0 = 0u; k0 < ${whole}u; k0 += ${LANES}u) {
${block(LANES)}}
${k === whole ? "" : `{\nlet k0 = ${whole}u;\n${block(k - whole)}}`}
${store((i) => `(m0 + ${i}u)`, (j) => `(n0 + ${LANES * j}u)`, { rows: tm, columns: tn })}
}`;
  const name = `matmul ${label(product)} direct ${tm}x${tn}`;
  const [x, y] = foldGrid(across * Math.ceil(m / tm));
  return { name, code, grid: [x, y, batch], flops: 2 * batch * m * n * k };
}

function tiled(product: Matmul, variant: Extract<MatmulVariant, { kind: "tiled" }>): Kernel {
  const { bm, bn, bk, tm, tn } = variant;
  const { batch, m, n, k } = product;
  const [a, b] = sides(product);
  const { declarations, store } = frame(product, { pair: [a, b], lanes: 4 });
  const across = bn / tn, threads = (bm / tm) * across;

  /** Fills `{name}s[kk * size/4 + quad]`, quads along m or n. */
  const load = (side: Side, origin: string, width: number): { fetch: string; keep: string } => {
    const quads = width / 4, tile = `${side.name}s`;
    if (side.kContiguous && side.wide) {
      // Four rows by four k: loaded along k, stored along the rows.
      const blocks = quads * (bk / 4), turns = Math.ceil(blocks / threads);
      const id = (l: number): string => `(lid + ${l * threads}u)`;
      const inside = (l: number): string => blocks % threads === 0 ? "" : `if (${id(l)} < ${blocks}u) `;
      const kq = (l: number): string => `(${id(l)} / ${quads}u)`,
        q = (l: number): string => `(${id(l)} % ${quads}u)`;
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
      if (!side.wide) {
        return `let ${side.name}p${l} = ${scalarQuad(side, (c) => ({ o: `${o(l)} + ${c}u`, k: kk(l) }))};\n`;
      }
      const text = `${side.name}[z${side.name} + ${kk(l)} * ${side.size / 4}u + min(${o(l)} / 4u, ${
        side.size / 4 - 1
      }u)]`;
      return `let ${side.name}p${l} = ${
        k % bk === 0 ? text : `select(vec4<f32>(), ${text}, ${kk(l)} < ${k}u)`
      };\n`;
    });
    const keep = repeat(
      turns,
      (l) =>
        `${slots % threads === 0 ? "" : `if (${id(l)} < ${slots}u) `}{ ${tile}[${
          id(l)
        }] = ${side.name}p${l}; }\n`,
    );
    return { fetch, keep };
  };
  const la = load(a, "m0", bm), lb = load(b, "n0", bn);
  const inner = repeat(
    bk,
    (kk) =>
      "{\n" + repeat(tm / 4, (i) => `let x${i} = as_[${kk * bm / 4}u + ty * ${tm / 4}u + ${i}u];\n`) +
      repeat(tn / 4, (j) => `let y${j} = bs[${kk * bn / 4}u + tx + ${j * across}u];\n`) +
      repeat(tm, (i) =>
        repeat(
          tn / 4,
          (j) => `c${i}_${j} = fma(vec4<f32>(x${i >> 2}.${"xyzw"[i & 3]}), y${j}, c${i}_${j});\n`,
        )) +
      "}\n",
  );
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
${
    store((i) => `(m0 + ty * ${tm}u + ${i}u)`, (j) => `(n0 + (tx + ${j * across}u) * 4u)`, {
      rows: tm,
      columns: tn / 4,
    })
  }
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
 * @param options `software`: the adapter is a CPU; `subgroups`: it can broadcast among eight lanes
 * @returns The variant
 */
export function chooseMatmul(
  { batch, m, n }: { readonly batch: number; readonly m: number; readonly n: number },
  options: { readonly software: boolean; readonly subgroups: boolean },
): MatmulVariant {
  if (options.software) {
    return {
      kind: "direct",
      tm: Math.min(16, m),
      tn: Math.min(4, Math.ceil(n / LANES)),
      subgroups: options.subgroups,
    };
  }
  const tiles = (bm: number, bn: number): number => batch * Math.ceil(m / bm) * Math.ceil(n / bn);
  if (tiles(128, 128) >= 200) return { kind: "tiled", bm: 128, bn: 128, bk: 16, tm: 8, tn: 8 };
  if (tiles(64, 64) >= 96) return { kind: "tiled", bm: 64, bn: 64, bk: 16, tm: 8, tn: 4 };
  return { kind: "tiled", bm: 32, bn: 32, bk: 16, tm: 4, tn: 4 };
}
