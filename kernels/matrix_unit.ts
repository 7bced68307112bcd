/**
 * What a matrix unit of a GPU multiplies.
 *
 * @module
 */

/** A product that the threads of a subgroup compute together: `m` x `k` times `k` x `n`, added to `m` x `n` sums. */
export interface MatrixUnit {
  /** Rows of the left operand and of the sums. */
  readonly m: number;
  /** Columns of the right operand and of the sums. */
  readonly n: number;
  /** Columns of the left operand, rows of the right one. */
  readonly k: number;
  /** Type of both operands. */
  readonly operands: "f16" | "f32";
  /** Type of the sums. */
  readonly sums: "f16" | "f32";
  /** The dialect of WGSL in which kernels use it; that of Tint when absent. */
  readonly dialect?: MatrixDialect;
}

/** Compilers with words for matrix units: Tint, of Dawn and Chromium, and naga, of Deno and Firefox. */
export type MatrixDialect = "tint" | "naga";

/**
 * The matrix unit that computes products.
 *
 * @param target Threads of a subgroup, and the units of a device
 * @returns One of f16 operands and f32 sums; undefined where the device offers none
 */
export function productUnit(
  { subgroupSize = 0, matrices = [] }: {
    readonly subgroupSize?: number;
    readonly matrices?: readonly MatrixUnit[];
  },
): MatrixUnit | undefined {
  return subgroupSize === 0
    ? undefined
    : matrices.find(({ operands, sums }) => operands === "f16" && sums === "f32");
}
