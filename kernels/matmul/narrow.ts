/**
 * Products with few rows, as when text is generated: every weight is read once, in loads as wide as can be, for all rows.
 *
 * Where sums run along the rows of B as they are stored, `along` neighbouring threads share the sums of `each` columns: a load
 * of A serves all of them. Elsewhere neighbours stand `across` columns, and each computes four.
 *
 * @module
 */

import { isBlocked } from "../blocks.ts";
import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, repeat } from "../kernel.ts";
import { frame, loadQuad, type MatmulOperand, operandsOf, selectBuffer } from "./frame.ts";
import { type Matmul, type MatmulVariant, productKey } from "./types.ts";
import { type Unit, unitOf } from "./units.ts";

/** Most rows. */
export const MOST_ROWS = 8;

/** Rows of B that a thread reads in an iteration where sums run across them. */
const UNROLL = 8;

/** Columns that a thread computes where sums run across rows of B. */
const QUAD = 4;

/**
 * Whether a product can be computed so: it has few rows, and sizes that can be loaded four at a time.
 *
 * @param product The product
 * @returns True when it can
 */
export function isNarrow(
  { batch, m, n, k, transposeA = false, transposeB = false, ...other }:
    & Pick<Matmul, "batch" | "m" | "n" | "k">
    & Partial<Matmul>,
): boolean {
  const { strideA, columnsB, limit, group, storedA = "f32", storedB = "f32" } = other;
  const plain = [strideA, columnsB, limit].every((option) => option === undefined) &&
    (group === undefined || group.as === "separate" && group.shared === "a");
  return plain && batch === 1 && m <= MOST_ROWS && !transposeA && storedA === "f32" && k % 4 === 0 &&
    (transposeB || n % 4 === 0 || isBlocked(storedB));
}

/** Makes the kernel of the narrow variant. */
export function narrow(
  product: Matmul,
  { across, along, each: columnsEach, subgroups }: Extract<MatmulVariant, { kind: "narrow" }>,
): Kernel {
  const { m, n, k, transposeB } = product, [a, b] = operandsOf(product), unit = unitOf(b);
  const each = transposeB ? columnsEach : QUAD, threads = across * along, columns = across * each;
  const { declarations, store } = frame(product, {
    pair: [a, transposeB ? { ...b, type: unit.type } : b],
    lanes: 1,
  });
  const names = Array.from({ length: m * each }, (_, at) => `c${Math.floor(at / each)}_${at % each}`);
  const join = joinSums(names, { threads, along, next: transposeB ? 1 : across, subgroups });
  const work = { a, b, unit, m, k, along, each }, grouped = product.group !== undefined;
  const sums = selectBuffer(b.buffers, (name) => {
    const own = { ...work, b: { ...b, name }, unit: unitOf({ ...b, name }) };
    return transposeB ? alongRows(own, n) : acrossRows(own, n);
  });
  const code = `${declarations}
${join.declare}@compute @workgroup_size(${threads}) fn main(${GROUP_BUILTINS}) {
let z = 0u;
let along = ${transposeB ? `lid % ${along}u` : `lid / ${across}u`};
let across = ${transposeB ? `lid / ${along}u` : `lid % ${across}u`};
let n0 = (${GROUP_INDEX}) * ${columns}u + across * ${each}u;
${grouped ? "let which = wid.z;\n" : ""}${
    names.map((name) => `var ${name} = 0.0f;\n`).join("")
  }${sums}${join.text}if (along > 0u) { return; }
${store((i) => `${i}u`, (j) => `(n0 + ${j}u)`, { rows: m, columns: each })}
}`;
  const [x, y] = foldGrid(Math.ceil(n / columns)), count = product.group?.count ?? 1;
  return {
    name: `matmul ${productKey(product)} narrow ${across}x${along}x${each}`,
    code,
    grid: [x, y, count],
    flops: 2 * m * n * k * count,
  };
}

/** What the loops over the sums need. */
interface Work {
  readonly a: MatmulOperand;
  readonly b: MatmulOperand;
  readonly unit: Unit;
  readonly m: number;
  readonly k: number;
  readonly along: number;
  readonly each: number;
}

/**
 * Repeats text for the steps of threads along sums: those that all take in a loop, and the last, which some may not. `whole`
 * tells that the last unit of all is in another step.
 */
function steps(
  { count, along, unroll }: { readonly count: number; readonly along: number; readonly unroll: number },
  one: (step: string, whole: boolean) => string,
): string {
  const stride = along * unroll, looped = Math.floor(count / stride) * stride;
  const loop = looped === 0 ? "" : `for (var s0 = 0u; s0 < ${looped}u; s0 += ${stride}u) {
${repeat(unroll, (u) => `{ let s = s0 + ${u * along}u + along;\n${one("s", looped < count)}}\n`)}}
`;
  return loop + repeat(Math.ceil((count - looped) / along), (u) => {
    const first = looped + u * along, last = first + along < count;
    const text = `let s = ${first}u + along;\n${one("s", last)}`;
    return first + along <= count ? `{ ${text}}\n` : `if (${first}u + along < ${count}u) { ${text}}\n`;
  });
}

/** Sums along rows of B: each thread takes every so many units of some rows. */
function alongRows({ unit, m, k, along, each }: Work, n: number): string {
  const { elements, load, declare, quads, scale } = unit,
    count = Math.ceil(k / elements),
    four = elements / 4;
  const padded = k % elements !== 0;
  const rows = repeat(each, (j) => `let r${j} = min(n0 + ${j}u, ${n - 1}u);\n`);
  return rows +
    steps(
      { count, along, unroll: 1 },
      (s, whole) =>
        repeat(
          each,
          (j) => `let w${j} = ${load(`r${j}`, s)};\n${declare(`${j}`, { row: `r${j}`, unit: s })}`,
        ) +
        repeat(m, (i) => repeat(each, (j) => `var p${i}_${j} = vec4<f32>();\n`)) +
        repeat(four, (q) => {
          const at = `${s} * ${four}u + ${q}u`;
          // Codes behind the end of a row are zeros; what A has there may be anything.
          const x = (i: number): string =>
            padded && !whole
              ? `select(vec4<f32>(), a[${i * k / 4}u + ${at}], ${at} < ${k / 4}u)`
              : `a[${i * k / 4}u + ${at}]`;
          return `{\n${repeat(m, (i) => `let x${i} = ${x(i)};\n`)}${
            repeat(each, (j) =>
              `{ let y = ${quads(`w${j}`, q)};\n${
                repeat(m, (i) => `p${i}_${j} = fma(y, x${i}, p${i}_${j});\n`)
              }}\n`)
          }}\n`;
        }) +
        repeat(m, (i) =>
          repeat(each, (j) => {
            const sum = `dot(p${i}_${j}, vec4<f32>(1.0f))`;
            return `c${i}_${j} ${
              scale === null ? `+= ${sum}` : `= fma(${sum}, ${scale(`${j}`)}, c${i}_${j})`
            };\n`;
          })),
    );
}

/** Sums across rows of B: each thread takes every so many rows. */
function acrossRows({ b, m, k, along }: Work, n: number): string {
  const edge = `let column = min(n0, ${Math.ceil(n / 4) * 4 - 4}u);\n`;
  return edge +
    steps(
      { count: k, along, unroll: UNROLL },
      (s) =>
        `let y = ${loadQuad(b, { row: s, column: "column" })};\n${
          repeat(m, (i) =>
            `let x${i} = a[${i * k / 4}u + ${s} / 4u][${s} % 4u];\n${
              repeat(QUAD, (j) =>
                `c${i}_${j} = fma(x${i}, y.${"xyzw"[j]}, c${i}_${j});\n`)
            }`)
        }`,
    );
}

/** Adds up what the threads along a sum have. The first of them gets the sum. */
function joinSums(
  names: readonly string[],
  { threads, along, next, subgroups }: {
    readonly threads: number;
    readonly along: number;
    /** From a thread to the next one along the same sum. */
    readonly next: number;
    readonly subgroups: boolean;
  },
): { readonly declare: string; readonly text: string } {
  if (along === 1) return { declare: "", text: "" };
  if (subgroups && along === threads) {
    return { declare: "", text: names.map((name) => `${name} = subgroupAdd(${name});\n`).join("") };
  }
  const halves: string[] = [];
  for (let count = along / 2; count >= 1; count /= 2) {
    const adds = names.map((name, i) =>
      `${name} += parts[${i * threads}u + lid + ${count * next}u]; parts[${i * threads}u + lid] = ${name};\n`
    );
    halves.push(`workgroupBarrier();\nif (along < ${count}u) {\n${adds.join("")}}\n`);
  }
  return {
    declare: `var<workgroup> parts: array<f32, ${names.length * threads}>;\n`,
    text: names.map((name, i) => `parts[${i * threads}u + lid] = ${name};\n`).join("") + halves.join(""),
  };
}
