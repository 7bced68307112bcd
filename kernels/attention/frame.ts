/**
 * What all attention kernels share: sizes, tiling, inputs, and the addresses of rows.
 *
 * @module
 */

import { type Access, access, type F16Bindings } from "../f16.ts";
import { foldGrid, GROUP_BUILTINS, GROUP_INDEX } from "../kernel.ts";
import type { MatrixUnit } from "../matrix_unit.ts";
import { type Lanes, lanesOf } from "../rows.ts";

/** Sizes of an attention. Legend: B batch, T queries, S keys, H query heads, G key heads, D elements of a head. */
export interface AttentionShape {
  /** Sequences B. */
  readonly batch: number;
  /** Queries T of each sequence. */
  readonly time: number;
  /** Keys S of each sequence, T if absent; query i sits at position `i + S - T`. */
  readonly keys?: number;
  /** Query heads H, a multiple of G; query head h reads key head `floor(h * G / H)`. */
  readonly heads: number;
  /** Key and value heads G. */
  readonly kvHeads: number;
  /** Elements of a head, D. */
  readonly dim: number;
  /** Factor of the scores, usually `1 / sqrt(D)`. */
  readonly scale: number;
  /** Whether a query sees only keys at its position and before. */
  readonly causal: boolean;
  /** Keys a query sees, its own included; all before it if absent. Makes the attention causal. */
  readonly window?: number | null;
  /** Bound of the scores, which become `softCap * tanh(score / softCap)`; none when absent. */
  readonly softCap?: number;
  /**
   * Whether a buffer says which keys each query sees: those from a first one to before an end, which never fall from one
   * query to the next. `causal` and `window` then only order the work and count it.
   */
  readonly ranges?: boolean;
  /** Shape [B|1, H|1, T|1, S] of what is added to the scores; nothing is when absent. */
  readonly bias?: readonly number[];
  /**
   * The share of weights that are dropped, at least 0 and below 1; none when absent. The last input is then the key and the
   * step of the draw. Not with a bias, nor on matrix units.
   */
  readonly dropout?: number;
  /** Which bindings with rows of D elements hold f16; none when absent. */
  readonly f16?: F16Bindings;
}

/** How an attention kernel is tiled; every choice gives the same result up to rounding. */
export interface AttentionTiling {
  /** Rows of a workgroup; 64 when absent. With a tile, a power of two times the rows of a thread. */
  readonly rows?: number;
  /** Rows of a thread without a tile; 1 when absent. With a tile, a thread has 4 rows, 8 when staged. */
  readonly each?: number;
  /** Streamed rows of a tile; 0 selects the direct kernels, which read storage and share no rows. */
  readonly tile: number;
  /**
   * Threads that share a row when there is a tile; 8 when absent. Four times the number must divide `tile` and D, and a
   * subgroup must hold that many.
   */
  readonly split?: 4 | 8 | 16;
  /** Whether threads that share a row exchange values through subgroups; the device must have the feature. */
  readonly subgroups?: boolean;
  /**
   * Whether both operands of each product pass through workgroup memory in stages of 16 steps (the staged kernels)
   * instead of as whole tiles; `rows` and `tile` must then be multiples of 32.
   */
  readonly staged?: boolean;
  /**
   * Workgroups among which the streamed rows are divided; 1 when absent. Each leaves a partial gradient, to be added up.
   * Only gradients with a tile can be divided.
   */
  readonly parts?: number;
  /**
   * How matrix units multiply; threads do when absent. `tile` is then a multiple of the unit, and all rows of D elements
   * that a kernel reads must be f16.
   */
  readonly matrix?: MatrixTiling;
}

/** How the subgroups of a workgroup multiply with matrix units. */
export interface MatrixTiling {
  /** The product that a subgroup computes at once: operands of f16, sums of f32. */
  readonly unit: MatrixUnit;
  /** Threads of a subgroup. */
  readonly lanes: number;
  /** Subgroups of a workgroup. */
  readonly subgroups: number;
  /** Units below each other in the own rows of a subgroup. */
  readonly high: 1 | 2;
  /** Tiles of streamed rows in workgroup memory: with two, one is written while the other is read. */
  readonly buffers: 1 | 2;
  /** Whether own rows stay in the registers of the subgroup instead of workgroup memory. */
  readonly held: boolean;
}

/** Which of the attention kernels: its workgroups own rows of queries, or in `"gradKV"` of keys. */
export type AttentionPass = "forward" | "gradQ" | "gradKV";

/** What a kernel reads besides queries, keys and values: each is WGSL. */
export interface Inputs {
  /** Element types of all inputs. */
  readonly types: readonly string[];
  /** How many of them, the first ones, have rows of D elements. */
  readonly operands: number;
  /** The buffer of dOut. */
  readonly grad: string;
  /** The buffer of the bias. */
  readonly bias: string;
  /** The buffer of the key and the step that dropout draws by. */
  readonly draw: string;
  /** The log-sum-exp of a row, which is a query and head. */
  readonly lse: (row: string) => string;
  /** The sum of dOut * out of a row. */
  readonly delta: (row: string) => string;
  /** The first key that a query sees, and the end of those keys (vec2i). */
  readonly range: (query: string) => string;
}

/**
 * Most loads of a row that direct kernels unroll. Loops run up to three times slower, but lavapipe compiles 64 unrolled loads
 * for half a minute to a minute, 32 for 8 to 14 s (one core), and the time grows with the square.
 */
const MOST_UNROLLED = 32;

/** A shape and a tiling with all defaults resolved. */
export interface Frame extends Lanes, Access {
  readonly shape: AttentionShape;
  readonly pass: AttentionPass;
  readonly inputs: Inputs;
  /** Keys S. */
  readonly keys: number;
  /** Query heads of a key head. */
  readonly ratio: number;
  readonly window: number | null;
  readonly causal: boolean;
  /** Rows of a sequence and head. */
  readonly count: number;
  /** Rows of a workgroup. */
  readonly rows: number;
  /** Rows of a thread. */
  readonly each: number;
  readonly tile: number;
  /** Whether a direct kernel unrolls the loads of a row. */
  readonly unrolled: boolean;
  readonly split: number;
  readonly subgroups: boolean;
  readonly staged: boolean;
  readonly threads: number;
  /** Workgroups along the rows. */
  readonly blocks: number;
  /** Workgroups among which the streamed rows are divided. */
  readonly parts: number;
}

/**
 * Resolves and checks the choices of a kernel.
 *
 * @param shape Sizes
 * @param options Tiling, which kernel, and whether it makes the gradient by the values only
 * @returns The frame
 * @throws RangeError if heads, window or tiling do not fit
 */
export function attentionFrame(
  shape: AttentionShape,
  { tiling, pass, valuesOnly = false }: {
    readonly tiling: AttentionTiling;
    readonly pass: AttentionPass;
    readonly valuesOnly?: boolean;
  },
): Frame {
  const keys = shape.keys ?? shape.time, count = pass === "gradKV" ? keys : shape.time;
  const causal = shape.causal || (shape.window ?? null) !== null;
  const { rows: wanted = 64, tile, subgroups = false, staged = false, parts = 1 } = tiling;
  const most = tile === 0 ? tiling.each ?? 1 : rowsEach(staged);
  const split = tile === 0 ? 1 : tiling.split ?? 8;
  check(
    shape.heads % shape.kvHeads === 0,
    `"heads" must be a multiple of "kvHeads": ${shape.heads}, ${shape.kvHeads}`,
  );
  check(
    !causal || shape.ranges || keys >= shape.time,
    `a causal query needs a key at its position: ${shape.time}, ${keys}`,
  );
  check(Number.isInteger(parts) && parts >= 1, `"parts" must be a whole number above 0: ${parts}`);
  check(parts === 1 || tile > 0, `"parts" need a "tile": ${parts}`);
  check(shape.dropout === undefined || shape.bias === undefined, `"dropout" has no "bias": ${shape.dropout}`);
  check(
    shape.dropout === undefined || pass !== "gradKV" || !staged,
    `gradients by keys and values with "dropout" are not staged: ${shape.dropout}`,
  );
  check((shape.window ?? 1) >= 1, `"window" must be at least 1: ${shape.window}`);
  if (tile === 0) check(wanted % most === 0, `"each" must divide "rows": ${most}, ${wanted}`);
  else checkTile({ rows: wanted, tile, split, dim: shape.dim, staged });
  const across = tile > 0 ? wanted / most : Math.min(wanted / most, Math.ceil(count / 8) * 8);
  const each = tile > 0 ? most : Math.min(most, Math.ceil(count / across));
  return {
    ...lanesOf(shape.dim),
    ...access(lanesOf(shape.dim).type, shape.f16),
    shape,
    pass,
    inputs: attentionInputs(shape, { pass, valuesOnly }),
    keys,
    ratio: shape.heads / shape.kvHeads,
    window: shape.window ?? null,
    causal,
    count,
    rows: across * each,
    each,
    tile,
    unrolled: lanesOf(shape.dim).loads <= MOST_UNROLLED,
    split,
    subgroups,
    staged,
    threads: across * split,
    blocks: Math.ceil(count / (across * each)),
    parts,
  };
}

/** Names the inputs. Gradients read the numbers of a row from one buffer where there are ranges, a bias or dropout: a device may bind only eight. */
function attentionInputs(
  shape: AttentionShape,
  { pass, valuesOnly }: { readonly pass: AttentionPass; readonly valuesOnly: boolean },
): Inputs {
  const { type } = lanesOf(shape.dim), { ranges = false } = shape;
  const joined = ranges || shape.bias !== undefined || shape.dropout !== undefined;
  const rows = Array(pass === "forward" || valuesOnly ? 3 : 4).fill(type);
  const numbers = pass === "forward"
    ? ranges ? ["vec2i"] : []
    : joined
    ? ["vec4f"]
    : valuesOnly
    ? ["f32"]
    : ["f32", "f32"];
  const types = [
    ...rows,
    ...numbers,
    ...(shape.bias === undefined && shape.dropout === undefined ? [] : ["f32"]),
  ];
  const first = `a${rows.length}`;
  const value = (lane: string, other: number) => (row: string): string =>
    joined ? `${first}[${row}].${lane}` : `a${rows.length + other}[${row}]`;
  const range = (i: string): string =>
    pass === "forward"
      ? `${first}[batch * ${shape.time}u + ${i}]`
      : `vec2i(${first}[${queryRow({ shape }, { i, count: shape.time })}].zw)`;
  return {
    types,
    operands: rows.length,
    grad: `a${rows.length - 1}`,
    bias: `a${types.length - 1}`,
    draw: `a${types.length - 1}`,
    lse: value("x", 0),
    delta: value("y", 1),
    range,
  };
}

/** Rows of a thread when there is a tile. */
export function rowsEach(staged: boolean): 4 | 8 {
  return staged ? 8 : 4;
}

function checkTile(
  { rows, tile, split, dim, staged }: {
    readonly rows: number;
    readonly tile: number;
    readonly split: number;
    readonly dim: number;
    readonly staged: boolean;
  },
): void {
  check(dim % 16 === 0, `a "tile" needs a "dim" that is a multiple of 16: ${dim}`);
  check(dim % (4 * split) === 0, `"split" must divide the ${dim / 4} loads of a row: ${split}`);
  const each = rowsEach(staged);
  check(powerOfTwo(rows / each), `"rows" must be a power of two times ${each}: ${rows}`);
  check(powerOfTwo(tile / (4 * split)), `"tile" must be a power of two times ${4 * split}: ${tile}`);
  check(
    !staged || (rows % 32 === 0 && tile % 32 === 0),
    `staged "rows" and "tile" must be multiples of 32: ${rows}, ${tile}`,
  );
}

function powerOfTwo(n: number): boolean {
  return n >= 1 && Number.isInteger(Math.log2(n));
}

/** Throws unless a rule holds. */
export function check(holds: boolean, rule: string): void {
  if (!holds) throw new RangeError(`Cannot make attention as ${rule}`);
}

/**
 * Counts the visible pairs of a query and a key, over batch and heads.
 *
 * @param frame The frame
 * @returns Pairs
 */
export function visiblePairs(
  { shape, keys, causal, window }: Pick<Frame, "shape" | "keys" | "causal" | "window">,
): number {
  let pairs = 0;
  for (let i = 0; i < shape.time; i++) {
    pairs += causal ? Math.min(i + keys - shape.time + 1, window ?? Infinity) : keys;
  }
  return pairs * shape.batch * shape.heads;
}

/**
 * Makes the grid.
 *
 * @param frame The frame
 * @returns Workgroups in x, y and z
 */
export function attentionGrid({ blocks, shape, parts }: Frame): readonly [number, number, number] {
  return foldGrid(blocks * parts * shape.heads * shape.batch);
}

/** Declares a zero that the compiler cannot see, so that it does not unroll loops beyond its instruction cache. */
export const NONE = "  let none = (nwg.x * nwg.z) >> 31u;\n";

/**
 * Opens `main` and declares `block`, `head` (of the queries) and `batch`, and `part` where there are several.
 *
 * @param frame The frame
 * @param options `reversed`: whether to start with the last blocks, which see most; `builtins`: the parameters of `main`
 * @returns WGSL up to the body, without the closing brace
 */
export function attentionMain(
  { blocks, threads, tile, shape, parts }: Frame,
  { reversed, builtins = GROUP_BUILTINS }: { readonly reversed: boolean; readonly builtins?: string },
): string {
  const lanes = shape.heads * shape.batch;
  // The cache of a CPU wants the blocks of a head side by side; a GPU wants the longest blocks first.
  const [block, lane] = tile === 0
    ? [`group % ${blocks}u`, `group / ${blocks}u`]
    : [parts === 1 ? `group / ${lanes}u` : `group / ${lanes * parts}u`, `group % ${lanes}u`];
  return `@compute @workgroup_size(${threads})
fn main(${builtins}) {
  let group = ${GROUP_INDEX};
  if (group >= ${blocks * lanes * parts}u) { return; }
  let block = ${reversed ? `${blocks - 1}u - ${block}` : block};
  let head = (${lane}) % ${shape.heads}u;
  let batch = (${lane}) / ${shape.heads}u;
${parts === 1 ? "" : `  let part = group / ${lanes}u % ${parts}u;\n`}`;
}

/** WGSL for the row of position `i` of `count` and the current query head, in rows of D elements. */
export function queryRow(
  { shape }: Pick<Frame, "shape">,
  { i, count }: { readonly i: string; readonly count: number },
): string {
  return `((batch * ${count}u + ${i}) * ${shape.heads}u + head)`;
}

/** WGSL for the output row of own row `row`. */
export function writtenRow(frame: Frame): string {
  const { shape, count, parts } = frame;
  const row = queryRow(frame, { i: "row", count });
  return parts === 1 ? row : `(part * ${shape.batch * count * shape.heads}u + ${row})`;
}

/** WGSL for the first load of key `j`. */
export function keyAddress({ keys, ratio, loads, shape }: Frame, j: string): string {
  const head = ratio === 1 ? "head" : `head / ${ratio}u`;
  return `((batch * ${keys}u + ${j}) * ${shape.kvHeads}u + ${head}) * ${loads}u`;
}
