/**
 * Units: what one load of 16 bytes takes of a row of weights.
 *
 * @module
 */

import { isBlocked, rowLayout, sharedScale } from "../blocks.ts";
import { packedQuad } from "../packed.ts";
import type { MatmulOperand } from "./frame.ts";

/** The row of a unit, and its number in the row. */
export interface UnitPlace {
  readonly row: string;
  readonly unit: string;
}

/** A word of a row of blocks. */
export interface WordPlace {
  /** The first word of its kind. */
  readonly first: number;
  /** Units that have the same one; all, when absent. */
  readonly per?: number;
  /** WGSL for which of the first `count` it is, where that does not follow from the unit. */
  readonly index?: string;
  readonly count?: number;
}

/** How a row is read unit by unit. */
export interface Unit {
  /** Elements of a unit, a multiple of four. */
  readonly elements: number;
  /** Units of a row, with those that hold scales. */
  readonly filled: number;
  /** The WGSL type that the binding is an array of. */
  readonly type: string;
  /** WGSL that loads a unit. */
  load(row: string, unit: string): string;
  /**
   * WGSL that declares what the quads of a unit have in common, with a tag that tells it from others. `word` is WGSL for a
   * word of the row; it is loaded when absent.
   */
  declare(tag: string, place: UnitPlace, word?: (place: WordPlace) => string): string;
  /** WGSL for a quad of a loaded unit, without its scale. */
  quads(loaded: string, quad: number): string;
  /** WGSL for the scale of a unit; null when it has none. */
  readonly scale: ((tag: string) => string) | null;
}

const PLAIN = { declare: () => "", scale: null };

/**
 * The units of an operand whose sums run along its rows.
 *
 * @param side The operand
 * @returns How to read them
 */
export function unitOf({ name, stored, stride: width }: MatmulOperand): Unit {
  if (isBlocked(stored)) return blockedUnit(name, { stored, width });
  const at = (elements: number) => (row: string, unit: string): string =>
    `${name}[${row} * ${width / elements}u + ${unit}]`;
  if (stored === "f32") {
    return {
      ...PLAIN,
      elements: 4,
      filled: width / 4,
      type: "vec4<f32>",
      load: at(4),
      quads: (loaded) => loaded,
    };
  }
  const wide = width % 8 === 0, elements = wide ? 8 : 4;
  return {
    ...PLAIN,
    elements,
    filled: width / elements,
    type: wide ? "vec4<u32>" : "vec2<u32>",
    load: at(elements),
    quads: (loaded, quad) => packedQuad(wide ? `${loaded}.${["xy", "zw"][quad]}` : loaded, stored),
  };
}

/** Units of blocks: 16 codes of int8, or 32 of nf4. A row of blocks is a whole number of them. */
function blockedUnit(
  name: string,
  { stored, width }: { readonly stored: "int8" | "nf4"; readonly width: number },
): Unit {
  const { scales, offset, blocks, shared, words } = rowLayout(stored, width);
  const load = (row: string, unit: string): string => `${name}[${row} * ${words / 4}u + ${unit}]`;
  const fromMemory = (row: string, unit: string) => ({ first, per, index }: WordPlace): string => {
    const place = `(${first}u${
      index !== undefined ? ` + ${index}` : per === undefined ? "" : ` + ${unit} / ${per}u`
    })`;
    return `${name}[${row} * ${words / 4}u + ${place} / 4u][${place} % 4u]`;
  };
  const common = { type: "vec4<u32>", filled: words / 4, load, scale: (tag: string) => `scale${tag}` };
  if (stored === "int8") {
    return {
      ...common,
      elements: 16,
      declare: (tag, { row, unit }, word = fromMemory(row, unit)) =>
        `let scales${tag} = unpack2x16float(${word({ first: scales, per: 4 })});
let scale${tag} = select(scales${tag}.x, scales${tag}.y, (${unit} & 2u) != 0u);\n`,
      quads: (loaded, quad) => `int8_codes(${loaded}.${"xyzw"[quad]})`,
    };
  }
  return {
    ...common,
    elements: 32,
    declare: (tag, { row, unit }, word = fromMemory(row, unit)) => {
      const code = `(${word({ first: scales, per: 8 })} >> (${unit} / 2u % 4u * 8u)) & 255u`;
      const index = sharedScale(blocks, { row, block: `${unit} / 2u` });
      const top = word({ first: offset + 1, index, count: shared });
      return `let scale${tag} = fma(nf4_scale(${code}), bitcast<f32>(${top}), bitcast<f32>(${
        word({ first: offset })
      }));\n`;
    },
    quads: (loaded, quad) => `nf4_codes(${loaded}.${"xyzw"[quad >> 1]} >> ${16 * (quad % 2)}u)`,
  };
}
