/**
 * Loads the tiles of a matrix product from storage into workgroup memory: for each k a row of quads along m or n. A thread
 * loads blocks of four k by four rows, and transposes operands that are contiguous along k.
 *
 * @module
 */

import { repeat } from "../kernel.ts";
import type { MatmulTile } from "./types.ts";
import { loadElement, loadType, type MatmulOperand, selectBuffer } from "./frame.ts";
import { blockedLoad, blockedQuad, isBlocked, RAW } from "../blocks.ts";
import { packedPart, packedQuad } from "../packed.ts";

/** A tile of an operand: WGSL for its first row or column, and how many it has. */
export interface Tile {
  readonly side: MatmulOperand;
  readonly origin: string;
  readonly width: number;
}

/** How tiles are loaded. */
export interface LoadOptions {
  /** Depth of the tiles. */
  readonly bk: number;
  readonly threads: number;
  /** WGSL for the position along k, within one product of a group. */
  readonly at: string;
  /** The same where registers are stored. */
  readonly storedAt: string;
}

/** WGSL that loads both tiles: first into registers, from `k0` on, then from there into workgroup memory. */
export interface TileLoad {
  /** Declares registers, and indices that do not change. */
  readonly declare: string;
  /** Loads the registers. */
  readonly load: string;
  /** Stores the registers into the tiles. */
  readonly store: string;
}

/** Rows that a transposing thread writes; the next four begin in different banks. */
const GROUP = 4;
/** Quads that the banks of workgroup memory hold side by side. */
const BANKS = 8;

/** Padding quads after each group, so that transposing threads of neighbouring k write into different banks. */
const padOf = (bk: number): number => Math.max(1, Math.ceil(BANKS / (bk / GROUP)));

/** Declares the tile of an operand. */
export function declareTile({ side: { name }, width }: Tile, { bk }: Pick<LoadOptions, "bk">): string {
  return `struct Group_${name} { row: array<array<vec4<f32>, ${
    width / 4
  }>, ${GROUP}>, pad: array<vec4<f32>, ${padOf(bk)}> }
var<workgroup> t${name}: array<Group_${name}, ${bk / GROUP}>;\n`;
}

/** Bytes of workgroup memory that both tiles take. */
export function tileBytes({ bm, bn, bk }: MatmulTile): number {
  return 16 * (bk / GROUP) * (GROUP * (bm + bn) / 4 + 2 * padOf(bk));
}

/** A quad of a tile. */
export function tileQuad(name: string, kk: number, quad: string): string {
  return `t${name}[${Math.floor(kk / GROUP)}].row[${kk % GROUP}][${quad}]`;
}

/**
 * Writes the loads of both tiles. When neither needs more than half of the threads, each tile gets one half.
 *
 * @param tiles Both operands
 * @param options How they are loaded
 * @returns WGSL
 */
export function loadTiles(tiles: readonly [Tile, Tile], options: LoadOptions): TileLoad {
  const { threads, bk } = options;
  const counts = tiles.map(({ width }) => width / 4 * (bk / GROUP));
  const half = threads / 2;
  const packed = tiles.some(({ side }) => isPacked(side));
  if (counts.every((count) => count <= half)) {
    const [a, b] = tiles.map((tile, i) =>
      loadBlock(tile, {
        ...options,
        id: `lid % ${half}u`,
        to: "p",
        tag: `${i}`,
        format: sharedFormat(tile.side, packed),
      })
    );
    const either = (part: "load" | "store"): string =>
      `if (lid < ${half}u) {\n${withBlock(counts[0], half, a[part])}} else {\n${
        withBlock(counts[1], half, b[part])
      }}\n`;
    const type = packed ? "vec4<u32>" : "vec4<f32>";
    return {
      declare: registers("p", type) + a.declare + b.declare,
      load: either("load"),
      store: either("store"),
    };
  }
  const rounds = tiles.flatMap((tile, i) =>
    Array.from({ length: Math.ceil(counts[i] / threads) }, (_, l) => {
      const to = `${tile.side.name}p${l}`;
      const format = registerFormat(tile.side);
      const text = loadBlock(tile, { ...options, id: `lid + ${l * threads}u`, to, tag: `${i}_${l}`, format });
      const count = counts[i] - l * threads;
      return {
        declare: registers(to, format.type) + text.declare,
        load: withBlock(count, threads, text.load),
        store: withBlock(count, threads, text.store),
      };
    })
  );
  const all = (part: keyof TileLoad): string => rounds.map((round) => round[part]).join("");
  return { declare: all("declare"), load: all("load"), store: all("store") };
}

function registers(to: string, type: string): string {
  return repeat(GROUP, (r) => `var ${to}_${r} = ${type}();\n`);
}

/** How a register holds a quad between the load and the store. */
interface RegisterFormat {
  readonly type: string;
  /** Packs a loaded quad. */
  pack(loaded: string): string;
  /** One element, as f32. */
  part(register: string, part: number): string;
  /** All four, as vec4<f32>. */
  quad(register: string): string;
  /** Widens a register that holds a quad of blocks, before its elements are taken; others need none. */
  readonly widen?: (register: string, column: string) => string;
}

/** Whether registers hold words as stored: widening right after the load would stall on it before the products. */
function isPacked({ stored, wide }: MatmulOperand): boolean {
  return stored !== "f32" && wide;
}

/** The format of registers that hold one operand. */
function registerFormat(side: MatmulOperand): RegisterFormat {
  const { stored, wide } = side;
  if (isBlocked(stored)) {
    const type = RAW[stored], words = stored === "int8" ? ".xy" : "";
    return { ...AS_IS, type, widen: (register, column) => blockedQuad(stored, register + words, column) };
  }
  return stored !== "f32" && wide
    ? {
      type: loadType(side),
      pack: (loaded) => loaded,
      part: (register, part) => packedPart(register, { part, stored }),
      quad: (register) => packedQuad(register, stored),
    }
    : AS_IS;
}

/** Registers that hold f32. */
const AS_IS: RegisterFormat = {
  type: "vec4<f32>",
  pack: (loaded) => loaded,
  part: (register, part) => `${register}.${"xyzw"[part]}`,
  quad: (register) => register,
};

/** The format of registers that hold one operand in some threads and the other in the rest; `packed` when one of them is. */
function sharedFormat(side: MatmulOperand, packed: boolean): RegisterFormat {
  const alone = registerFormat(side);
  if (!packed) return alone;
  const type = "vec4<u32>";
  if (alone.type === type) return alone;
  return isPacked(side) ? { ...alone, type, pack: (loaded) => `${type}(${loaded}, 0u, 0u)` } : {
    type,
    pack: (loaded) => `bitcast<${type}>(${loaded})`,
    part: (register, part) => `bitcast<f32>(${alone.part(register, part)})`,
    quad: (register) => `bitcast<vec4<f32>>(${register})`,
  };
}

/** Runs text in the threads that have a block. */
function withBlock(count: number, threads: number, text: string): string {
  return count >= threads ? text : `if (lid % ${threads}u < ${count}u) {\n${text}}\n`;
}

/** Writes the load of one block: `id` is its number, `to` the prefix of its registers, `tag` the suffix of its indices. */
function loadBlock(
  { side, origin, width }: Tile,
  { bk, at: k0, storedAt, id, to, tag, format }: LoadOptions & {
    readonly id: string;
    readonly to: string;
    readonly tag: string;
    readonly format: RegisterFormat;
  },
): TileLoad {
  const { name, buffers, size, k, kContiguous, stride, stored, wide } = side;
  const deep = bk / GROUP, quads = width / 4;
  const kq = `kq${tag}`, q = `q${tag}`, at = (r: number): string => `i${tag}_${r}`;
  const fits = size % width === 0;
  const clamp = (text: string, count: number): string => fits ? text : `min(${text}, ${count - 1}u)`;
  const base = `let id${tag} = ${id};\n` +
    (kContiguous
      ? `let ${kq} = id${tag} % ${deep}u;\nlet ${q} = id${tag} / ${deep}u;\n`
      : `let ${q} = id${tag} % ${quads}u;\nlet ${kq} = id${tag} / ${quads}u;\n`);
  const first = `${origin} + ${q} * 4u`;
  const rows = isBlocked(stored) ? { stored, width: stride } : null;
  const edge = rows && !kContiguous ? clamp(`(${first})`, Math.ceil(size / 4) * 4 - 3) : "";
  const declare = !wide
    ? ""
    : rows
    ? kContiguous
      ? repeat(GROUP, (r) => `let ${at(r)} = z${name} + ${clamp(`${first} + ${r}u`, size)};\n`)
      : `let ${at(0)} = ${edge};\n`
    : kContiguous
    ? repeat(GROUP, (r) =>
      `let ${at(r)} = z${name} + (${clamp(`${first} + ${r}u`, size)}) * ${stride / 4}u + ${kq};\n`)
    : `let ${at(0)} = z${name} + ${kq} * ${stride}u + ${clamp(`(${first}) / 4u`, Math.ceil(size / 4))};\n`;
  const quad = (r: number, buffer: string): string => {
    if (!wide) return scalarQuad(side, { first, k: `(k0 + ${kq} * 4u)`, r });
    if (rows) {
      const depth = `(${k0} + ${kq} * 4u)`, reach = kContiguous ? depth : `(${k0} + ${kq} * 4u + ${r}u)`;
      const place = kContiguous
        ? { row: at(r), column: depth }
        : { row: `(z${name} + ${reach})`, column: at(0) };
      const text = blockedLoad(rows.stored, { name: buffer, width: rows.width, ...place });
      return k % bk === 0 ? text : `select(${RAW[rows.stored]}(), ${text}, ${reach} < ${k}u)`;
    }
    const [text, reach] = kContiguous
      ? [`${buffer}[${at(r)} + ${k0} / 4u]`, `${k0} + ${kq} * 4u`]
      : [`${buffer}[${at(0)} + (${k0} + ${r}u) * ${stride / 4}u]`, `${k0} + ${kq} * 4u + ${r}u`];
    return k % bk === 0 ? text : `select(${loadType(side)}(), ${text}, ${reach} < ${k}u)`;
  };
  const { widen } = format, held = (r: number): string => widen ? `${to}w_${r}` : `${to}_${r}`;
  const column = kContiguous ? `${storedAt} + ${kq} * 4u` : at(0);
  const widened = widen ? repeat(GROUP, (r) => `let ${held(r)} = ${widen(`${to}_${r}`, column)};\n`) : "";
  const row = (c: number): string =>
    kContiguous
      ? `vec4<f32>(${[0, 1, 2, 3].map((r) => format.part(held(r), c)).join(", ")})`
      : format.quad(held(c));
  return {
    declare: base + declare,
    load: selectBuffer(
      buffers,
      (buffer) => repeat(GROUP, (r) => `${to}_${r} = ${format.pack(quad(r, buffer))};\n`),
    ),
    store: widened + repeat(GROUP, (c) => `t${name}[${kq}].row[${c}][${q}] = ${row(c)};\n`),
  };
}

/** WGSL for register r, element by element: four k of row r, or four rows of the r-th k; zero past the end. */
function scalarQuad(
  side: MatmulOperand,
  at: { readonly first: string; readonly k: string; readonly r: number },
): string {
  const { size, k, kContiguous } = side;
  const one = (c: number): string => {
    const [o, kk] = kContiguous ? [at.r, c] : [c, at.r];
    const row = `(${at.first} + ${o}u)`, depth = `(${at.k} + ${kk}u)`;
    const place = kContiguous ? { row, column: depth } : { row: depth, column: row };
    return `select(0.0f, ${loadElement(side, place)}, ${row} < ${size}u && ${depth} < ${k}u)`;
  };
  return `vec4<f32>(${[0, 1, 2, 3].map(one).join(", ")})`;
}
