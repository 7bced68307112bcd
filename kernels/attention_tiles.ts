/**
 * What the attention kernels share: a thread (or a few) owns a row in registers while the rows of the other side
 * stream past it, four at a time, straight from storage or through workgroup memory.
 *
 * @module
 */

import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, repeat } from "./kernel.ts";
import { type Lanes, lanesOf } from "./rows.ts";

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
}

/** Tuning of the attention kernels; any choice gives the same result up to rounding. */
export interface AttentionTiling {
  /** Rows of a workgroup, 64 if absent. */
  readonly rows?: number;
  /** Streamed rows held in workgroup memory at a time, a multiple of 4; 0 reads storage directly. */
  readonly tile: number;
  /** Rows that a thread owns, so that a load serves them all: 1 if absent. */
  readonly each?: number;
  /** Threads that share a row, each with a part of D: 1 if absent. More than 1 needs a tile. */
  readonly split?: 1 | 2 | 4 | 8;
  /** Whether threads that share a row add up through subgroups; the device must have the feature. */
  readonly subgroups?: boolean;
}

/** Workgroups that fill the processors of a large GPU. */
const MANY = 256;

/**
 * Recommends a tiling.
 *
 * @param shape Sizes of the attention
 * @param options Which kernel, and what the adapter is: a software rasteriser, one with subgroups
 * @returns The tiling
 */
export function attentionTiling(
  { batch, time, keys = time, heads, dim }: AttentionShape,
  { pass, software, subgroups }: {
    readonly pass: "forward" | "gradQ" | "gradKV";
    readonly software: boolean;
    readonly subgroups: boolean;
  },
): AttentionTiling {
  // More rows a thread would save loads, but the driver compiles their text for seconds.
  if (software) {
    const each = dim <= 64 ? 2 : 1;
    return { rows: 8 * each, each, tile: 0 };
  }
  // At most 128 floats of own rows in the registers of a thread.
  const owned = dim * (pass === "forward" ? 2 : pass === "gradQ" ? 3 : 4);
  const parts = lanesOf(dim).loads;
  const split = ([1, 2, 4, 8] as const).find((n) => parts % n === 0 && owned / n <= 128);
  const tile = dim <= 64 ? 32 : dim <= 128 ? 16 : 8;
  const blocks = Math.ceil((pass === "gradKV" ? keys : time) / 64) * heads * batch;
  return {
    rows: blocks < MANY && pass !== "forward" ? 32 : 64,
    tile,
    split: split ?? (parts % 2 === 0 ? 2 : 1),
    subgroups,
  };
}

/** A resolved shape and tiling for one side of rows. */
export interface Frame extends Lanes {
  readonly shape: AttentionShape;
  /** Keys S. */
  readonly keys: number;
  /** Query heads of a key head. */
  readonly ratio: number;
  readonly window: number | null;
  readonly causal: boolean;
  /** Loads that a thread owns of each row. */
  readonly own: number;
  readonly split: number;
  readonly tile: number;
  readonly threads: number;
  /** Rows of a workgroup. */
  readonly rows: number;
  /** Rows of a thread. */
  readonly each: number;
  /** Workgroups along the rows. */
  readonly blocks: number;
  readonly subgroups: boolean;
}

/**
 * Resolves the choices of a kernel.
 *
 * @param shape Sizes
 * @param options Tiling, and how many rows each sequence and head has
 * @returns The frame
 * @throws RangeError if heads, window or tiling do not fit
 */
export function attentionFrame(
  shape: AttentionShape,
  { tiling, count }: { readonly tiling: AttentionTiling; readonly count: number },
): Frame {
  const lanes = lanesOf(shape.dim);
  const keys = shape.keys ?? shape.time;
  const split = tiling.split ?? 1;
  const causal = shape.causal || (shape.window ?? null) !== null;
  check(
    shape.heads % shape.kvHeads === 0,
    `"heads" must be a multiple of "kvHeads": ${shape.heads}, ${shape.kvHeads}`,
  );
  check(!causal || keys >= shape.time, `a causal query needs a key at its position: ${shape.time}, ${keys}`);
  check((shape.window ?? 1) >= 1, `"window" must be at least 1: ${shape.window}`);
  check(tiling.tile % 4 === 0, `"tile" must be a multiple of 4: ${tiling.tile}`);
  check(split === 1 || tiling.tile > 0, `"split" above 1 needs a "tile": ${split}`);
  check(lanes.loads % split === 0, `"split" must divide the ${lanes.loads} loads of a row: ${split}`);
  const wanted = tiling.rows ?? 64;
  check(wanted % (tiling.each ?? 1) === 0, `"each" must divide "rows": ${tiling.each}, ${wanted}`);
  const across = Math.min(wanted / (tiling.each ?? 1), Math.ceil(count / 8) * 8);
  const each = Math.min(tiling.each ?? 1, Math.ceil(count / across));
  const rows = across * each;
  return {
    ...lanes,
    shape,
    keys,
    ratio: shape.heads / shape.kvHeads,
    window: shape.window ?? null,
    causal,
    own: lanes.loads / split,
    split,
    tile: tiling.tile,
    threads: across * split,
    rows,
    each,
    blocks: Math.ceil(count / rows),
    subgroups: tiling.subgroups ?? false,
  };
}

function check(holds: boolean, rule: string): void {
  if (!holds) throw new RangeError(`Cannot make attention as ${rule}`);
}

/**
 * Counts pairs of a query and a key it sees, over batch and heads.
 *
 * @param frame The frame
 * @returns Pairs
 */
export function visiblePairs({ shape, keys, causal, window }: Frame): number {
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
 * @param heads Heads on the side of the rows
 * @returns Workgroups in x, y and z
 */
export function attentionGrid(frame: Frame, heads: number): readonly [number, number, number] {
  return foldGrid(frame.blocks * heads * frame.shape.batch);
}

/**
 * Declares workgroup memory and opens `main`: `block`, `head`, `batch`, `lane` (row in the block) and `part`.
 *
 * @param frame The frame
 * @param options Streamed buffers, vectors to exchange, heads on the side of the rows, and whether long rows come last
 * @returns WGSL up to the body, without the closing brace
 */
export function attentionMain(
  frame: Frame,
  { streams, exchanged, heads, reversed }: {
    readonly streams: readonly string[];
    readonly exchanged: readonly string[];
    readonly heads: number;
    readonly reversed: boolean;
  },
): string {
  const { blocks, threads, split, tile, own, type, subgroups } = frame;
  // Parts start a load apart, so that threads of one row read different banks.
  const held = `array<array<array<${type}, ${4 * own + (split > 1 ? 1 : 0)}>, ${split}>, ${tile / 4}>`;
  const memory = tile > 0 ? streams.map((name) => `var<workgroup> t_${name}: ${held};\n`).join("") : "";
  const shared = split > 1 && !subgroups
    ? perRow(frame, exchanged).map((name) => `var<workgroup> x_${name}: array<vec4f, ${threads}>;\n`).join("")
    : "";
  const order = reversed ? `${blocks - 1}u - group % ${blocks}u` : `group % ${blocks}u`;
  return `${memory}${shared}
@compute @workgroup_size(${threads})
fn main(${GROUP_BUILTINS}) {
  let group = ${GROUP_INDEX};
  if (group >= ${blocks * heads * frame.shape.batch}u) { return; }
  let block = ${order};
  let head = (group / ${blocks}u) % ${heads}u;
  let batch = group / ${blocks * heads}u;
${split === 1 ? "  let lane = lid;\n" : `  let lane = lid / ${split}u;\n  let part = lid % ${split}u;\n`}`;
}

/** WGSL for the load of a row that register i of a thread holds. */
export function ownIndex({ split }: Frame, i: number): string {
  return split === 1 ? `${i}u` : `${i * split}u + part`;
}

/** Reads load i of streamed row k (0 to 3) of a buffer. */
export type Read = (stream: string, k: number, i: number) => string;

/**
 * Streams rows past the threads, four at a time: the body sees `j` (i32), the first of the four, and `j0` to `j3`
 * (u32), each at most `hi - 1`.
 *
 * @param frame The frame
 * @param options Buffers, the first load of a row given its index as text, and the body; `lo` and `hi` are i32 `let`s
 * @returns WGSL
 */
export function streamRows(
  frame: Frame,
  { streams, address, body }: {
    readonly streams: readonly string[];
    readonly address: (row: string) => string;
    readonly body: (read: Read) => string;
  },
): string {
  const { tile, own, split, loads, threads } = frame;
  const rows = repeat(4, (k) => `    let j${k} = u32(min(j + ${k}, hi - 1));\n`);
  if (tile === 0) {
    return `  for (var j = lo; j < hi; j += 4) {
${rows}${repeat(4, (k) => `    let r${k} = ${address(`j${k}`)};\n`)}${
      body((s, k, i) => `${s}[r${k} + ${i}u]`)
    }  }
`;
  }
  const items = tile * loads;
  const fill = (e: string): string =>
    `      { let e = ${e}; let row = e / ${loads}u; let d = e % ${loads}u;
        let source = ${address("u32(min(base + i32(row), hi - 1))")} + d;
${
      streams.map((s) =>
        `        t_${s}[row / 4u][d % ${split}u][(row % 4u) * ${own}u + d / ${split}u] = ${s}[source];\n`
      ).join("")
    }      }\n`;
  const whole = Math.floor(items / threads);
  const filled = whole <= 8
    ? repeat(whole, (n) => fill(`lid + ${n * threads}u`))
    : `    for (var n = 0u; n < ${whole}u; n += 1u) {\n${fill(`lid + n * ${threads}u`)}    }\n`;
  const rest = items % threads;
  const partIndex = split === 1 ? "0" : "part";
  return `  for (var base = lo; base < hi; base += ${tile}) {
    workgroupBarrier();
${filled}${
    rest === 0 ? "" : `    if (lid < ${rest}u) {\n${fill(`lid + ${whole * threads}u`)}    }\n`
  }    workgroupBarrier();
    let count = min(${tile}, hi - base);
    for (var c = 0; c < count; c += 4) {
    let j = base + c;
    let four = u32(c) / 4u;
${rows}${body((s, k, i) => `t_${s}[four][${partIndex}][${k * own + i}]`)}    }
  }
`;
}

/**
 * Names a variable of each row of a thread: `s0`, `s1`, ...
 *
 * @param frame The frame
 * @param names The variables
 * @returns The names with the number of the row, all rows of the first before those of the second
 */
export function perRow({ each }: Frame, names: readonly string[]): readonly string[] {
  return names.flatMap((name) => Array.from({ length: each }, (_, m) => `${name}${m}`));
}

/**
 * Multiplies own registers with the four streamed rows: declares `name0`, `name1`, ... for each row of the thread, a
 * vec4f of four scalar products.
 *
 * @param frame The frame
 * @param options Name, prefix of the registers, the buffer, and how to read it
 * @returns WGSL; the products are whole only after {@link exchange}
 */
export function products(
  frame: Frame,
  { name, own, stream, read }: {
    readonly name: string;
    readonly own: string;
    readonly stream: string;
    readonly read: Read;
  },
): string {
  const { each, type, sum } = frame;
  const start = (m: number): string => repeat(4, (k) => `    var ${name}${m}_${k} = ${type}();\n`);
  const add = (m: number, k: number, i: number): string =>
    ` ${name}${m}_${k} = fma(${own}${m}_${i}, x, ${name}${m}_${k});`;
  const load = (k: number, i: number): string =>
    `    { let x = ${read(stream, k, i)};${repeat(each, (m) => add(m, k, i))} }\n`;
  const whole = (m: number): string =>
    `    var ${name}${m} = vec4f(${[0, 1, 2, 3].map((k) => sum(`${name}${m}_${k}`)).join(", ")});\n`;
  return repeat(each, start) + repeat(4, (k) => repeat(frame.own, (i) => load(k, i))) + repeat(each, whole);
}

/**
 * Adds up vectors over the threads that share a row, in a fixed order.
 *
 * @param frame The frame
 * @param stems The vec4f `var`s, without the number of the row
 * @returns WGSL, empty where a thread has rows of its own
 */
export function exchange(frame: Frame, stems: readonly string[]): string {
  const { split, subgroups } = frame;
  if (split === 1) return "";
  const names = perRow(frame, stems);
  if (subgroups) {
    const steps = Array.from({ length: Math.log2(split) }, (_, n) => 2 ** n);
    return names.map((name) =>
      steps.map((n) => `    ${name} += subgroupShuffleXor(${name}, ${n}u);\n`).join("")
    ).join("");
  }
  const sum = (name: string): string =>
    Array.from({ length: split }, (_, n) => `x_${name}[lane * ${split}u + ${n}u]`).join(" + ");
  return `    workgroupBarrier();
${names.map((name) => `    x_${name}[lid] = ${name};\n`).join("")}    workgroupBarrier();
${names.map((name) => `    ${name} = ${sum(name)};\n`).join("")}`;
}

/**
 * Adds the four streamed rows, each times its weight, to own registers.
 *
 * @param frame The frame
 * @param options Prefix of the registers, that of the vec4f of weights, the buffer, and how to read it
 * @returns WGSL
 */
export function accumulate(
  frame: Frame,
  { own, weights, stream, read }: {
    readonly own: string;
    readonly weights: string;
    readonly stream: string;
    readonly read: Read;
  },
): string {
  const { each, type } = frame;
  const add = (m: number, k: number, i: number): string =>
    ` ${own}${m}_${i} = fma(${type}(${weights}${m}.${"xyzw"[k]}), x, ${own}${m}_${i});`;
  return repeat(
    frame.own,
    (i) => repeat(4, (k) => `    { let x = ${read(stream, k, i)};${repeat(each, (m) => add(m, k, i))} }\n`),
  );
}

/**
 * Writes text for every register of every row of a thread.
 *
 * @param frame The frame
 * @param body Text given the row, the register, and the load of the row that it holds
 * @returns WGSL
 */
export function registers(frame: Frame, body: (m: number, i: number, index: string) => string): string {
  return repeat(frame.each, (m) => repeat(frame.own, (i) => body(m, i, ownIndex(frame, i))));
}

/**
 * Declares the rows of a thread: `wanted0` is the first, `row0` the same but at most the last there is.
 *
 * @param frame The frame
 * @param count Rows of a sequence and head
 * @returns WGSL
 */
export function ownRows({ rows, each }: Frame, count: number): string {
  return `  let first = block * ${rows}u;\n` +
    repeat(
      each,
      (m) =>
        `  let wanted${m} = first + lane + ${m * rows / each}u;\n  let row${m} = min(wanted${m}, ${
          count - 1
        }u);\n`,
    );
}
