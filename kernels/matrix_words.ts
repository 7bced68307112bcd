/**
 * The words for matrix units in WGSL: types, loads, stores and products of matrices that a whole subgroup holds.
 *
 * A matrix lies in the registers of a subgroup: no thread can reach one of its elements, so epilogues read it back from
 * workgroup memory.
 *
 * @module
 */

import type { MatrixDialect, MatrixUnit } from "./matrix_unit.ts";

/** One of the three matrices: `[m, k]`, `[k, n]`, or the sums `[m, n]`. */
export type MatrixRole = "left" | "right" | "sums";

/** Where a matrix is in memory. */
export interface MatrixPlace {
  /**
   * WGSL of a pointer to an array. Checks of every access are costly where the offset is not a constant: let the pointer
   * name an element of an array of arrays, `&panels[i]`, and the offset be a constant within it.
   */
  readonly array: string;
  /** First element, in elements of the array. */
  readonly offset: string | number;
  /** From one row (or column) to the next, in elements of the array. */
  readonly stride: string | number;
}

/** Workgroup memory that operands, and later sums, pass through. */
export interface MatrixMemory {
  /** Panels of operands, and chunks of eight f16 of each. */
  readonly operands: { readonly count: number; readonly length: number };
  /** Panels of sums, and chunks of four f32 of each: they take the place of operands where a dialect can do that. */
  readonly sums: { readonly count: number; readonly length: number };
}

/** WGSL for a chunk in memory: its panel, and its place within that. */
export interface ChunkPlace {
  readonly panel: string;
  readonly at: string;
}

/** The words of a dialect of WGSL. */
export interface MatrixWords {
  /** Directives that a shader begins with. */
  readonly header: string;
  /** The type of a matrix; a variable of this type begins with zeros. */
  type(role: MatrixRole, unit: MatrixUnit): string;
  /** An expression that loads an operand; `byColumns` where its columns are what lies together in memory. */
  load(
    matrix: { readonly role: MatrixRole; readonly unit: MatrixUnit; readonly byColumns: boolean },
    place: MatrixPlace,
  ): string;
  /** A statement that stores a matrix row by row. */
  store(value: string, place: MatrixPlace): string;
  /** An expression for `left x right + sums`. */
  multiplyAdd(left: string, right: string, sums: string): string;
  /** Declares memory. Panels of operands are `panels`. */
  memory(memory: MatrixMemory): string;
  /** A statement that puts eight f16, given as `vec4<u32>`, into a chunk of a panel of operands. */
  put(value: string, place: ChunkPlace): string;
  /** A pointer to a panel of sums, to store to. */
  sumsPanel(panel: string): string;
  /** An expression for the four sums of a chunk. */
  sums(place: ChunkPlace): string;
  /** WGSL that gives the four f16 of a `vec4<f32>` as `vec2<u32>`. */
  halfWords(value: string): string;
}

/** Tint, the compiler of Dawn and Chromium: types name columns first. */
const TINT: MatrixWords = {
  header: "enable f16;\nenable subgroups;\nenable chromium_experimental_subgroup_matrix;\n" +
    "diagnostic(off, chromium.subgroup_matrix_uniformity);\n",
  type(role, { m, n, k, operands, sums }) {
    if (role === "sums") return `subgroup_matrix_result<${sums}, ${n}, ${m}>`;
    return `subgroup_matrix_${role}<${operands}, ${role === "left" ? `${k}, ${m}` : `${n}, ${k}`}>`;
  },
  load({ role, unit, byColumns }, { array, offset, stride }) {
    const order = byColumns ? "col_major" : "row_major";
    return `subgroupMatrixLoad<${TINT.type(role, unit)}, ${order}>(${array}, ${offset}, ${stride})`;
  },
  store: (value, { array, offset, stride }) =>
    `subgroupMatrixStore<row_major>(${array}, ${offset}, ${value}, ${stride});`,
  multiplyAdd: (left, right, sums) => `subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${sums})`,
  // A matrix may be loaded from, and stored to, an array of any type.
  memory: ({ operands, sums }) =>
    `var<workgroup> panels: array<array<vec4<u32>, ${Math.max(operands.length, sums.length)}>, ${
      Math.max(operands.count, sums.count)
    }>;`,
  put: (value, { panel, at }) => `panels[${panel}][${at}] = ${value};`,
  sumsPanel: (panel) => `&panels[${panel}]`,
  sums: ({ panel, at }) => `bitcast<vec4<f32>>(panels[${panel}][${at}])`,
  halfWords: (value) => `bitcast<vec2<u32>>(vec4<f16>(${value}))`,
};

/**
 * naga, the compiler of Deno and Firefox. Its matrices are square, of 8 or 16 rows, and lie in memory as their own type: a
 * chunk is two `vec4<f16>`, and sums have memory of their own. What `coopStore` is given must have a name, as naga 29 forgets
 * to compute it otherwise.
 *
 * Source: naga 29, `src/front/wgsl/lower/mod.rs` and `src/valid/type.rs`.
 */
const NAGA: MatrixWords = {
  header: "enable f16;\nenable wgpu_cooperative_matrix;\n",
  type(role, { m, n, k, operands, sums }) {
    if (m !== n || n !== k || (m !== 8 && m !== 16)) {
      throw new RangeError(`Cannot name a matrix unit of ${m} x ${n} x ${k} as naga has cubes of 8 and 16`);
    }
    const letter = { left: "A", right: "B", sums: "C" }[role];
    return `coop_mat${m}x${m}<${role === "sums" ? sums : operands}, ${letter}>`;
  },
  load({ role, unit, byColumns }, { array, offset, stride }) {
    const word = byColumns ? "coopLoad" : "coopLoadT";
    return `${word}<${NAGA.type(role, unit)}>(${array}[${twice(offset)}], ${twice(stride)})`;
  },
  store: (value, { array, offset, stride }) =>
    `{ let value = ${value}; let stride = ${unsigned(stride)}; coopStoreT(value, ${array}[${
      unsigned(offset)
    }], stride); }`,
  multiplyAdd: (left, right, sums) => `coopMultiplyAdd(${left}, ${right}, ${sums})`,
  memory: ({ operands, sums }) =>
    `var<workgroup> panels: array<array<vec4<f16>, ${2 * operands.length}>, ${operands.count}>;
var<workgroup> panels_of_sums: array<array<vec4<f32>, ${sums.length}>, ${sums.count}>;
fn halves_of(x: vec2<u32>) -> vec4<f16> {
return vec4<f16>(vec4<f32>(unpack2x16float(x.x), unpack2x16float(x.y)));
}
fn put_chunk(panel: u32, at: u32, x: vec4<u32>) {
panels[panel][2u * at] = halves_of(x.xy);
panels[panel][2u * at + 1u] = halves_of(x.zw);
}`,
  put: (value, { panel, at }) => `put_chunk(${panel}, ${at}, ${value});`,
  sumsPanel: (panel) => `&panels_of_sums[${panel}]`,
  sums: ({ panel, at }) => `panels_of_sums[${panel}][${at}]`,
  halfWords: (value) => `vec2<u32>(pack2x16float((${value}).xy), pack2x16float((${value}).zw))`,
};

const unsigned = (count: string | number): string => typeof count === "number" ? `${count}u` : count;

const twice = (count: string | number): string =>
  typeof count === "number" ? `${2 * count}u` : `2u * (${count})`;

/**
 * The words for matrix units in WGSL.
 *
 * @param dialect Whose
 * @returns The words
 */
export function matrixWords(dialect: MatrixDialect = "tint"): MatrixWords {
  return dialect === "naga" ? NAGA : TINT;
}
