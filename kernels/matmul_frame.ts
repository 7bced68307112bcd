/**
 * What the matrix product kernels share: operands, declarations, and the store with its epilogue.
 *
 * @module
 */

import { render } from "./expression.ts";
import { repeat } from "./kernel.ts";
import { type Epilogue, type Matmul, partialSize } from "./matmul.ts";

/** An epilogue that stores a product of some shape as it is. */
export function storeOnly(shape: readonly number[]): Epilogue {
  return { expression: { shape, inputs: [], steps: [{ kind: "given", name: "acc" }] }, outputs: [0] };
}

/** One operand as the generators see it: `size` rows or columns, `k` deep. */
export interface Side {
  readonly name: string;
  readonly size: number;
  readonly k: number;
  /** Whether neighbours along k are neighbours in memory. */
  readonly kContiguous: boolean;
  /** Elements from one to the next along the other direction. */
  readonly stride: number;
  /** Whether groups of four along the contiguous direction can be loaded at once. */
  readonly wide: boolean;
}

/** Both operands of a product. */
export function sides(product: Matmul): [Side, Side] {
  const { m, n, k, transposeA, transposeB, strideA, columnsB = n } = product;
  const side = (name: string, size: number, kContiguous: boolean, stride = kContiguous ? k : size): Side => ({
    name,
    size,
    k,
    kContiguous,
    stride,
    wide: stride % 4 === 0,
  });
  return [side("a", m, !transposeA, strideA), side("b", columnsB, transposeB)];
}

/**
 * Declarations, and the text that stores a thread's block of accumulators `c{i}_{j}`: quads of a row where `lanes` is
 * 4, elements where it is 1.
 */
export function frame(
  product: Matmul,
  { pair: [a, b], lanes: wanted }: { pair: readonly [Side, Side]; lanes: 1 | 4 },
): {
  readonly declarations: string;
  store(
    row: (i: number) => string,
    column: (j: number) => string,
    block: { rows: number; columns: number; fits?: boolean },
  ): string;
} {
  const { m, n, batch } = product;
  const { expression, outputs, overwrites = [] } = product.epilogue ?? storeOnly([batch * m, n]);
  const targets = outputs.map((_, k) => typeof overwrites[k] === "number" ? `e${overwrites[k]}` : `o${k}`);
  const rendering = render(expression, { lanes: n % 4 === 0 ? wanted : 1, nameOf: (k) => `e${k}` });
  const { lanes, types } = rendering;
  const all = [
    `var<storage, read> a: array<${a.wide ? "vec4<f32>" : "f32"}>;`,
    `var<storage, read> b: array<${b.wide ? "vec4<f32>" : "f32"}>;`,
    ...types.map((t, k) =>
      `var<storage, ${overwrites.includes(k) ? "read_write" : "read"}> e${k}: array<${t}>;`
    ),
    ...targets.filter((name) => name[0] === "o").map((name) =>
      `var<storage, read_write> ${name}: array<${lanes === 4 ? "vec4<f32>" : "f32"}>;`
    ),
  ];
  const partial = product.variant.kind === "tiled" && product.variant.split > 1;
  const offset = partial ? ` + part * ${partialSize(product) / lanes}u` : "";
  const put = (index: string, value: string): string =>
    `{ let i = ${index}; let acc = ${value};\n${rendering.body("i")}\n${
      outputs.map((step, k) => `${targets[k]}[i] = v${step};`).join(" ")
    } }`;
  return {
    declarations: all.map((d, i) => `@group(0) @binding(${i}) ${d}`).join("\n"),
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

/** Batch offsets of both operands, in the units of their arrays. */
export function batchOffsets(product: Matmul, pair: readonly Side[]): string {
  return pair.map((s) => {
    const stride = s.stride * (s.kContiguous ? s.size : s.k) / (s.wide ? 4 : 1);
    return product.batch === 1 ? `let z${s.name} = 0u;` : `let z${s.name} = z * ${stride}u;`;
  }).join(" ");
}
