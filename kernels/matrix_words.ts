/**
 * The words for matrix units in WGSL: types, loads, stores and products of matrices that a whole subgroup holds.
 *
 * A matrix lies in the registers of a subgroup: no thread can reach one of its elements, so epilogues read it back from
 * workgroup memory.
 *
 * @module
 */

import type { MatrixUnit } from "./matrix_unit.ts";

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
};

/**
 * The words for matrix units in WGSL.
 *
 * @returns The words
 */
export function matrixWords(): MatrixWords {
  return TINT;
}
