/**
 * Chooses how an attention kernel uses the matrix units of an adapter.
 *
 * @module
 */

import type { MatrixUnit } from "../matrix_unit.ts";
import type { AttentionPass, AttentionShape, AttentionTiling, MatrixTiling } from "./frame.ts";
import { matrixBytes, OCTET } from "./matrix_frame.ts";
import { matrixMemory } from "./matrix_kernels.ts";

/** Sizes of a workgroup: subgroups, units of own rows, streamed rows, tiles in memory, and whether own rows are held. */
type Sizes = Pick<MatrixTiling, "subgroups" | "high" | "buffers" | "held"> & { readonly tile: number };

/** Tilings for units of 16 rows, the fastest on an H200 first; the later ones need less memory. */
type Tilings = Readonly<Record<AttentionPass, readonly Sizes[]>>;

/** Many rows: workgroups of many rows read keys and values less often. */
const MANY: Tilings = {
  forward: [sizes(8, 1, 32, 2), sizes(4, 2, 32, 2), sizes(2, 1, 32, 1)],
  gradQ: [sizes(4, 2, 32, 1), sizes(4, 1, 32, 2), sizes(2, 1, 32, 1)],
  gradKV: [sizes(4, 1, 32, 2), sizes(2, 1, 32, 1)],
};

/** Few rows: smaller workgroups reach more processors, and both gradients fit into one launch. */
const FEW: Tilings = {
  forward: [sizes(2, 2, 64, 1), sizes(4, 2, 32, 2), sizes(2, 1, 32, 1)],
  gradQ: [sizes(4, 1, 32, 2), sizes(2, 1, 32, 1)],
  gradKV: MANY.gradKV,
};

/** Rows of all heads from which on they are many: workgroups of 128 rows for two rounds on a large GPU. */
const MANY_ROWS = 2 * 132 * 128;

/** Tilings for smaller units: short texts, as only software has such units with sums of f32. */
const NARROW: readonly Sizes[] = [sizes(4, 1, 16, 2), sizes(2, 1, 16, 1)];

function sizes(subgroups: number, high: 1 | 2, tile: number, buffers: 1 | 2): Sizes {
  return { subgroups, high, tile, buffers, held: true };
}

/** Elements of a head up to which own rows fit into registers beside the sums. */
const MOST_HELD = 64;

/** Elements of a head up to which the sums fit into registers. */
const MOST_ELEMENTS = 128;

/** Fewer queries would leave most rows of the units empty. */
const FEWEST_QUERIES = 16;

/**
 * Recommends a tiling for matrix units.
 *
 * @param shape Sizes of the attention
 * @param options Which kernel, and the adapter: its matrix units, the size of its subgroups, its workgroup memory
 * @returns The tiling; undefined where threads have to multiply
 */
export function matrixTiling(
  { batch, heads, time, dim, bias }: AttentionShape,
  { pass, matrices, subgroupSize, workgroupBytes }: {
    readonly pass: AttentionPass;
    readonly matrices: readonly MatrixUnit[];
    readonly subgroupSize: number;
    readonly workgroupBytes: number;
  },
): AttentionTiling | undefined {
  // Scores and what becomes of them pass through one array, which naga's matrices cannot do.
  const unit = matrices.find(({ m, n, k, operands, sums, dialect }) =>
    operands === "f16" && sums === "f32" && m === n && n === k && m % 8 === 0 && dialect !== "naga"
  );
  const fits = dim % OCTET === 0 && dim <= MOST_ELEMENTS && time >= FEWEST_QUERIES && bias === undefined;
  if (unit === undefined || !fits) return undefined;
  const wide = batch * heads * time < MANY_ROWS ? FEW : MANY;
  for (const chosen of unit.m === 8 ? NARROW : wide[pass]) {
    const { tile, ...rest } = chosen, held = rest.held && dim <= MOST_HELD;
    const matrix = { ...rest, held, unit, lanes: subgroupSize }, height = unit.m * matrix.high;
    if (![1, 2].includes(subgroupSize / height)) continue;
    const line = Math.ceil(dim / unit.m) * unit.m / OCTET + 1;
    const frame = { by: matrix, height, line, scoreLine: tile / 4 + 1, tile };
    if (matrixBytes(frame, matrixMemory(pass)) <= workgroupBytes) return { tile, matrix };
  }
  return undefined;
}
