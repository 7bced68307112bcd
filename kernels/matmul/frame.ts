/**
 * What both matrix product kernels share: operands, declarations, and the epilogue that stores.
 *
 * @module
 */

import { render } from "../expression.ts";
import { f16Header, halfType, toHalf } from "../f16.ts";
import { repeat } from "../kernel.ts";
import { type Epilogue, isPaired, type Matmul, partialSize, splitOf } from "./types.ts";
import {
  blockedAt,
  blockedFunctions,
  blockedLoad,
  blockedQuad,
  blockedReader,
  isBlocked,
} from "../blocks.ts";
import { halfAt, halfReader, packedQuad, type Stored } from "../packed.ts";

/** The epilogue that stores a product unchanged, as f16 when `half`. */
export function identityEpilogue(shape: readonly number[], half = false): Epilogue {
  return {
    expression: { shape, inputs: [], steps: [{ kind: "given", name: "acc" }] },
    outputs: [0],
    half: [half],
  };
}

/** One operand of a product: `size` rows or columns, `k` deep. */
export interface MatmulOperand {
  readonly name: string;
  /** Names of its buffers: one for each product of a group. */
  readonly buffers: readonly string[];
  readonly size: number;
  readonly k: number;
  /** Whether neighbours along k are neighbours in memory. */
  readonly kContiguous: boolean;
  /** Elements from one row to the next along the other direction. */
  readonly stride: number;
  /** Whether groups of four along the contiguous direction can be loaded at once. */
  readonly wide: boolean;
  readonly stored: Stored;
  /** Whether it is f32, and may hold numbers beyond the range of f16. */
  readonly large: boolean;
  /** The WGSL type of one load, where it is another than {@link loadType} tells. */
  readonly type?: string;
}

/** Both operands of a product. */
export function operandsOf(product: Matmul): [MatmulOperand, MatmulOperand] {
  const { m, n, k, transposeA, transposeB, strideA, columnsB = n, group } = product;
  const { storedA = "f32", storedB = "f32", largeA = false, largeB = false } = product;
  const side = (
    name: string,
    [size, kContiguous]: readonly [number, boolean],
    { stored, large, stride = kContiguous ? k : size }: {
      readonly stored: Stored;
      readonly large: boolean;
      readonly stride?: number;
    },
  ): MatmulOperand => ({
    name,
    buffers: group === undefined || group.shared === name
      ? [name]
      : Array.from({ length: group.count }, (_, i) => `${name}${i}`),
    size,
    k,
    kContiguous,
    stride,
    stored,
    large: large && stored === "f32",
    // Rows of blocks are padded.
    wide: stride % 4 === 0 || isBlocked(stored),
  });
  return [
    side("a", [m, !transposeA], { stored: storedA, large: largeA, stride: strideA }),
    side("b", [columnsB, transposeB], { stored: storedB, large: largeB }),
  ];
}

/** The WGSL type of one load of an operand. */
export function loadType({ stored, wide, type }: MatmulOperand): string {
  if (type !== undefined) return type;
  if (isBlocked(stored)) return "u32";
  if (wide) return stored === "f32" ? "vec4<f32>" : "vec2<u32>";
  return stored === "bf16" || stored === "half" ? "u32" : stored;
}

/** One element of an operand that is loaded element by element, as f32: its row and column as they are stored. */
export function loadElement(
  { name, stored, stride }: MatmulOperand,
  { row, column }: { readonly row: string; readonly column: string },
): string {
  if (isBlocked(stored)) return blockedAt(name, `z${name} + ${row}`, column);
  const index = `z${name} + ${row} * ${stride}u + ${column}`;
  if (stored === "bf16" || stored === "half") return halfAt(name, index);
  return stored === "f32" ? `${name}[${index}]` : `f32(${name}[${index}])`;
}

/** Four elements of one matrix that can be loaded so, as vec4<f32>: their row, and the first column, as they are stored. */
export function loadQuad(
  { name, stored, stride }: MatmulOperand,
  { row, column }: { readonly row: string; readonly column: string },
): string {
  if (isBlocked(stored)) {
    const place = { name, row, width: stride, column };
    return blockedQuad(stored, blockedLoad(stored, place), column);
  }
  const loaded = `${name}[${row} * ${stride / 4}u + ${column} / 4u]`;
  return stored === "f32" ? loaded : packedQuad(loaded, stored);
}

/**
 * Writes the declarations, and the text that stores the accumulators `c{i}_{j}` of a thread: quads of a row when `lanes`
 * is 4, elements when it is 1.
 */
export function frame(
  product: Matmul,
  { pair: [a, b], lanes: wanted }: { pair: readonly [MatmulOperand, MatmulOperand]; lanes: 1 | 4 },
): {
  readonly declarations: string;
  store(
    row: (i: number) => string,
    column: (j: number) => string,
    block: { rows: number; columns: number; fits?: boolean },
  ): string;
} {
  const { m, n, batch, group } = product;
  const results = group?.as === "separate" ? group.count : 1;
  const { expression, outputs, overwrites = [], half = [] } = product.epilogue ??
    identityEpilogue([batch * m, n]);
  const targets = outputs.map((_, k) => typeof overwrites[k] === "number" ? `e${overwrites[k]}` : `o${k}`);
  const made = results === 1 ? targets : Array.from({ length: results }, (_, i) => `o${i}`);
  const rendering = render(expression, { lanes: n % 4 === 0 ? wanted : 1, nameOf: (k) => `e${k}` });
  const { lanes, types } = rendering;
  const type = lanes === 4 ? "vec4<f32>" : "f32";
  const isHalf = (k: number): boolean => half[results === 1 ? k : 0] === true;
  const stored = (k: number, step: number): string => isHalf(k) ? toHalf(`v${step}`, type) : `v${step}`;
  const all = [
    ...[a, b].flatMap((side) =>
      side.buffers.map((name) => `var<storage, read> ${name}: array<${loadType(side)}>;`)
    ),
    ...(product.limit === undefined ? [] : ["var<storage, read> limit: array<u32>;"]),
    ...(isPaired(product) ? ["a", "b"].map((name) => `var<storage, read> ${name}_largest: array<u32>;`) : []),
    ...types.map((t, k) =>
      `var<storage, ${overwrites.includes(k) ? "read_write" : "read"}> e${k}: array<${t}>;`
    ),
    ...made.flatMap((name, k) =>
      name[0] === "o"
        ? [`var<storage, read_write> ${name}: array<${isHalf(k) ? halfType(type) : type}>;`]
        : []
    ),
  ];
  const partial = splitOf(product.variant) > 1;
  const offset = partial ? ` + part * ${partialSize(product) / lanes}u` : "";
  const put = (index: string, value: string): string =>
    `{ let i = ${index}; let acc = ${value};\n${rendering.body("i")}\n${
      results === 1
        ? outputs.map((step, k) => `${targets[k]}[i] = ${stored(k, step)};`).join(" ")
        : selectBuffer(made, (name) => `${name}[i] = ${stored(0, outputs[0])};`)
    } }`;
  return {
    declarations: f16Header(all) + all.map((d, i) => `@group(0) @binding(${i}) ${d}`).join("\n") +
      [a, b].map(readerOf).join(""),
    store(row, column, { rows, columns, fits = false }) {
      const one = (i: number, j: number): string => {
        const base = `(z * ${m}u + ${row(i)}) * ${n}u + ${column(j)}`;
        const inside = (c: number): string =>
          fits ? "" : `if (${row(i)} < ${m}u && ${column(j)} + ${c}u < ${n}u)`;
        if (lanes === wanted) {
          return `${inside(0)} ${put((lanes === 4 ? `(${base}) / 4u` : base) + offset, `c${i}_${j}`)}\n`;
        }
        return repeat(
          4,
          (c) => `${inside(c)} ${put(`${base} + ${c}u${offset}`, `c${i}_${j}.${"xyzw"[c]}`)}\n`,
        );
      };
      return repeat(rows, (i) => repeat(columns, (j) => one(i, j)));
    },
  };
}

/** Declares what loads of an operand call. */
export function readerOf(side: MatmulOperand): string {
  const { name, stored, stride: width, wide } = side;
  if (isBlocked(stored)) {
    return `\n${blockedFunctions(stored)}${wide ? "" : blockedReader(stored, { name, width })}`;
  }
  return (stored === "bf16" || stored === "half") && !wide ? `\n${halfReader(name, stored)}` : "";
}

/** WGSL that uses the buffer of product `which` of a group. */
export function selectBuffer(buffers: readonly string[], text: (name: string) => string): string {
  if (buffers.length === 1) return text(buffers[0]);
  const last = buffers.length - 1;
  return `switch which {\n${
    repeat(buffers.length, (i) => `${i === last ? "default" : `case ${i}u`}: { ${text(buffers[i])} }\n`)
  }}\n`;
}

/** WGSL for the length of the sums, given `m0`, and for leaving early when there is nothing to add. */
export function sumLength(
  { k, limit, epilogue, group }: Matmul,
): { readonly declare: string; readonly reach: string } {
  if (limit === undefined) {
    return { declare: "", reach: `${group?.as === "summed" ? group.count * k : k}u` };
  }
  const reach = limit === "m" ? `select(${k}u, 0u, m0 >= limit[0])` : `min(${k}u, limit[0])`;
  const leave = epilogue?.additive ? "if (reach == 0u) { return; }\n" : "";
  return { declare: `let reach = ${reach};\n${leave}`, reach: "reach" };
}

/** Batch offsets of both operands, in the units of their arrays; in rows where those are blocks. */
export function batchOffsets(product: Matmul, pair: readonly MatmulOperand[]): string {
  return pair.map((s) => {
    const rows = s.kContiguous ? s.size : s.k;
    const stride = isBlocked(s.stored) ? rows : s.stride * rows / (s.wide ? 4 : 1);
    return product.batch === 1 ? `let z${s.name} = 0u;` : `let z${s.name} = z * ${stride}u;`;
  }).join(" ");
}
