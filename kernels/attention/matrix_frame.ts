/**
 * What the attention kernels on matrix units share: sizes, workgroup memory, and which keys or queries a row sees.
 *
 * Own rows (queries, or keys in the gradient by keys and values) are divided among the subgroups of a workgroup. No thread
 * can reach an element of a matrix, so that scores pass through workgroup memory: a subgroup stores them as f32, each of
 * its threads turns a row, or half of one, into weights, and writes these in place as f16.
 *
 * Source: Dao, arXiv 2307.08691 (FlashAttention-2), algorithms 1 and 2.
 *
 * @module
 */

import { GROUP_BUILTINS, storage } from "../kernel.ts";
import { matrixWords } from "../matrix_words.ts";
import {
  attentionFrame,
  attentionMain,
  type AttentionPass,
  type AttentionShape,
  check,
  type Frame,
  type MatrixTiling,
} from "./frame.ts";

/** Elements of one load: 16 bytes of f16. */
export const OCTET = 8;

/** A frame of a kernel on matrix units. Sizes of workgroup memory are in loads of 16 bytes. */
export interface MatrixFrame extends Frame {
  readonly by: MatrixTiling;
  /** Own rows of a subgroup. */
  readonly height: number;
  /** Threads that share an own row. */
  readonly share: number;
  /** Elements of a row in workgroup memory: D, up to whole units. */
  readonly depth: number;
  /** From one row of D elements to the next. An odd number spreads rows over the banks of the memory. */
  readonly line: number;
  /** From one row of scores to the next. */
  readonly scoreLine: number;
  /** Query heads that a workgroup adds up, one after the other. */
  readonly turns: number;
}

/**
 * Resolves and checks the choices of a kernel on matrix units.
 *
 * @param shape Sizes
 * @param options The tiling, which kernel, whether it makes the gradient by the values only, and whether a workgroup adds
 * up the query heads of its key head
 * @returns The frame
 * @throws {RangeError} When sizes and tiling do not fit
 */
export function matrixFrame(
  shape: AttentionShape,
  { matrix, tile, pass, valuesOnly = false, grouped = false }: {
    readonly matrix: MatrixTiling;
    readonly tile: number;
    readonly pass: AttentionPass;
    readonly valuesOnly?: boolean;
    readonly grouped?: boolean;
  },
): MatrixFrame {
  const frame = attentionFrame(shape, { tiling: { tile: 0, rows: 1 }, pass, valuesOnly });
  const { unit: { m, n, k }, lanes, subgroups, high } = matrix, { dim, f16 = [] } = shape;
  const height = m * high, share = lanes / height, rows = height * subgroups, wide = Math.max(n, k);
  check(shape.bias === undefined, "matrix units add no bias");
  check(shape.dropout === undefined, "matrix units drop no weights");
  const { types, operands } = frame.inputs,
    narrow = types.map((_, i) => i < operands && f16.includes(`a${i}`));
  check(narrow.filter(Boolean).length === operands, `matrix units multiply f16: ${f16}`);
  check(dim % OCTET === 0, `matrix units need a "dim" that is a multiple of ${OCTET}: ${dim}`);
  check(share === 1 || share === 2, `one or two threads must share a row: ${lanes}, ${height}`);
  check(tile % wide === 0 && tile % (k * share) === 0, `whole units must fill a "tile": ${tile}`);
  check(lanes * subgroups >= tile, `every row of a "tile" needs a thread: ${tile}`);
  const turns = grouped ? frame.ratio : 1, depth = Math.ceil(dim / wide) * wide;
  return {
    ...frame,
    ...(grouped ? { shape: { ...shape, heads: shape.kvHeads }, ratio: 1 } : {}),
    inputs: {
      ...frame.inputs,
      types: types.map((type, i) => i < operands ? "vec4<u32>" : type),
    },
    by: matrix,
    height,
    share,
    rows,
    tile,
    turns,
    depth,
    line: depth / OCTET + 1,
    scoreLine: tile / 4 + 1,
    loads: dim / OCTET,
    threads: lanes * subgroups,
    blocks: Math.ceil(frame.count / rows),
  };
}

/** Sizes of arrays in workgroup memory. */
export interface MatrixMemory {
  /** Operands of own rows. */
  readonly own: number;
  /** Operands of streamed rows. */
  readonly streamed: number;
  /** Blocks of scores. */
  readonly scores: number;
  /** Whether there are two numbers for each streamed row. */
  readonly numbers: boolean;
}

/** Whether a frame is of a kernel on matrix units. */
export function isMatrixFrame(frame: Frame): frame is MatrixFrame {
  return "by" in frame;
}

type MemoryFrame = Pick<MatrixFrame, "by" | "height" | "line" | "scoreLine" | "tile">;

/** Loads of a subgroup's scores, which the own rows pass through when they become matrices. */
function scoreSize({ by, height, line, scoreLine }: MemoryFrame, { scores }: MatrixMemory): number {
  return height * Math.max(scores * scoreLine, by.held ? line : 0);
}

/** Loads of a tile of streamed rows. */
function tileSize({ tile, line }: MemoryFrame, { streamed, numbers }: MatrixMemory): number {
  return streamed * tile * line + (numbers ? tile / 2 : 0);
}

/** Bytes of workgroup memory, but for a few numbers of each row. */
export function matrixBytes(frame: MemoryFrame, memory: MatrixMemory): number {
  const { by: { buffers, subgroups, held }, height, line } = frame;
  const own = held ? 0 : memory.own * height * line;
  return 16 * (buffers * tileSize(frame, memory) + subgroups * (scoreSize(frame, memory) + own)) +
    4 * height * subgroups + 4;
}

/**
 * Declares workgroup memory, opens `main`, and declares the place of a thread: its subgroup `sid`, its own row `place` of
 * the subgroup, its half `side` of that row, and `at`, its first scores.
 *
 * @param frame The frame
 * @param options `reversed`: whether to start with the last blocks; `memory`: what the arrays hold; `range`: WGSL that declares
 * `first`, `offset`, `lo` and `hi`; `extra`: further declarations of the module
 * @returns WGSL
 */
export function matrixMain(frame: MatrixFrame, { reversed, memory, range, extra = "" }: {
  readonly reversed: boolean;
  readonly memory: MatrixMemory;
  readonly range: string;
  readonly extra?: string;
}): string {
  const { by: { buffers, subgroups, unit, held }, height, share, scoreLine, line, count } = frame;
  const array = (name: string, size: number, of: number): string =>
    `var<workgroup> ${name}: array<array<vec4<u32>, ${size}>, ${of}>;\n`;
  const builtins =
    `${GROUP_BUILTINS}, @builtin(subgroup_id) sid: u32, @builtin(subgroup_invocation_id) lane: u32`;
  return array("tiles", tileSize(frame, memory), buffers) +
    array("scores", scoreSize(frame, memory), subgroups) +
    (held ? "" : array("own", memory.own * height * line, subgroups)) + extra +
    attentionMain(frame, { reversed, builtins }) + range +
    `  let place = lane / ${share}u;
  let side = lane % ${share}u;
  let at = place * ${scoreLine}u + side * ${unit.k / 4}u;
  let row = first + sid * ${height}u + place;
  let ownRow = min(row, ${count - 1}u);
` + (frame.pass === "gradKV" ? seenByKey(frame) : seenByQuery(frame)) + `  if (row >= ${count}u) { end = 0; }
  let near = subgroupMin(select(begin, ${NEVER}, begin >= end));
  let far = subgroupMax(select(end, 0, begin >= end));
`;
}

/** A first row that no tile reaches. */
const NEVER = "0x7fffffff";

/** Whether the subgroup sees a row of the tile at `base`. */
export const DECLARE_LIVE = (tile: number): string => `    let live = base < far && base + ${tile} > near;\n`;

/** Declares the keys `begin` to `end` that the own query sees. */
function seenByQuery({ keys, causal, window, shape, inputs }: MatrixFrame): string {
  if (shape.ranges) {
    return `  let seen = ${
      inputs.range("ownRow")
    };\n  let begin = seen.x;\n  var end = min(seen.y, ${keys});\n`;
  }
  return `  let begin = ${window === null ? "0" : `max(0, i32(row) + offset - ${window - 1})`};
  var end = ${causal ? `min(${keys}, i32(row) + offset + 1)` : `${keys}`};
`;
}

/** Declares the queries `begin` to `end` that see the own key. */
function seenByKey({ causal, window, shape, inputs }: MatrixFrame): string {
  const { time } = shape;
  if (!shape.ranges) {
    return `  let begin = ${causal ? "max(0, i32(row) - offset)" : "0"};
  var end = ${window === null ? `${time}` : `min(${time}, i32(row) - offset + ${window})`};
`;
  }
  // Neither the first key nor the end of what queries see falls.
  const search = (name: string, before: string): string =>
    `  var ${name} = 0;
  for (var left = ${time}; left > 0;) {
    let middle = ${name} + left / 2;
    let seen = ${inputs.range("u32(middle)")};
    if (${before}) {
      ${name} = middle + 1;
      left -= left / 2 + 1;
    } else {
      left /= 2;
    }
  }
`;
  return search("begin", "seen.y <= i32(row)") + search("end", "seen.x <= i32(row)");
}

/** WGSL for the row of query `i` of the current head. */
export function queryRowOf({ shape: { time, heads }, turns }: MatrixFrame, i: string): string {
  const head = turns === 1 ? "head" : `head * ${turns}u + turn`;
  return `((batch * ${time}u + ${i}) * ${heads * turns}u + ${head})`;
}

/** The words for matrices, and the directives that a kernel begins with. */
export const WORDS = matrixWords();

/** All threads of a subgroup skip the same tiles, which a compiler cannot see. */
const UNIFORM = "diagnostic(off, subgroup_uniformity);\n";

/** The directives and bindings of a kernel, given the types of its outputs. Inputs of f16 are loaded eight elements at a time. */
export function matrixStorage(
  { inputs, shape: { f16 = [] } }: MatrixFrame,
  outputs: readonly string[],
): string {
  return WORDS.header + UNIFORM + storage(inputs.types, outputs, f16.filter((name) => name.startsWith("o")));
}
