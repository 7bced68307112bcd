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

/** How a row is read unit by unit. */
export interface Unit {
  /** Elements of a unit, a multiple of four. */
  readonly elements: number;
  /** The WGSL type that the binding is an array of. */
  readonly type: string;
  /** WGSL that loads a unit. */
  load(row: string, unit: string): string;
  /** WGSL that declares what the quads of a unit have in common, with a tag that tells it from others. */
  declare(tag: string, place: UnitPlace): string;
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
    return { ...PLAIN, elements: 4, type: "vec4<f32>", load: at(4), quads: (loaded) => loaded };
  }
  const wide = width % 8 === 0, elements = wide ? 8 : 4;
  return {
    ...PLAIN,
    elements,
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
  const { scales, offset, blocks, words } = rowLayout(stored, width);
  const load = (row: string, unit: string): string => `${name}[${row} * ${words / 4}u + ${unit}]`;
  const word = (row: string, place: string): string =>
    `${name}[${row} * ${words / 4}u + (${place}) / 4u][(${place}) % 4u]`;
  const common = { type: "vec4<u32>", load, scale: (tag: string) => `scale${tag}` };
  if (stored === "int8") {
    return {
      ...common,
      elements: 16,
      declare: (tag, { row, unit }) =>
        `let scales${tag} = unpack2x16float(${word(row, `${scales}u + ${unit} / 4u`)});
let scale${tag} = select(scales${tag}.x, scales${tag}.y, (${unit} & 2u) != 0u);\n`,
      quads: (loaded, quad) => `int8_codes(${loaded}.${"xyzw"[quad]})`,
    };
  }
  return {
    ...common,
    elements: 32,
    declare: (tag, { row, unit }) => {
      const code = `${word(row, `${scales}u + ${unit} / 8u`)} >> (${unit} / 2u % 4u * 8u) & 255u`;
      const top = word(row, `${offset + 1}u + ${sharedScale(blocks, { row, block: `${unit} / 2u` })}`);
      return `let scale${tag} = fma(nf4_scale(${code}), bitcast<f32>(${top}), bitcast<f32>(${
        word(row, `${offset}u`)
      }));\n`;
    },
    quads: (loaded, quad) => `nf4_codes(${loaded}.${"xyzw"[quad >> 1]} >> ${16 * (quad % 2)}u)`,
  };
}
