/**
 * The normalizer of SentencePiece: a table of replacements, found by a double-array trie over UTF-8.
 *
 * Source: the Rust crate `spm_precompiled`.
 *
 * @module
 */

import type { Fields } from "./fields.ts";

/**
 * Builds the normalizer of a table.
 *
 * @param fields Its description, with `precompiled_charsmap` in base 64
 * @returns The function
 * @throws {DataError} When the table is damaged
 */
export function precompiled(fields: Fields): (text: string) => string {
  const encoded = fields.text("precompiled_charsmap");
  const bad = () => fields.error("precompiled_charsmap", "a table of SentencePiece in base 64", encoded);
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  } catch {
    throw bad();
  }
  const view = new DataView(bytes.buffer);
  const size = bytes.length < 4 ? NaN : view.getUint32(0, true);
  if (!(size >= 4 && size % 4 === 0 && size <= bytes.length - 4)) throw bad();
  const units = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
  const table = bytes.subarray(4 + size), encoder = new TextEncoder(), decoder = new TextDecoder();
  function replacement(chunk: string): string | null {
    const at = firstPrefix(units, encoder.encode(chunk));
    if (at === null || at >= table.length) return null;
    const end = table.indexOf(0, at);
    return decoder.decode(table.subarray(at, end < 0 ? table.length : end));
  }
  const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });
  return (text) => {
    let result = "";
    for (const { segment } of graphemes.segment(text)) {
      const whole = encoder.encode(segment).length < 6 ? replacement(segment) : null;
      if (whole !== null) result += whole;
      else for (const character of segment) result += replacement(character) ?? character;
    }
    return result;
  };
}

const offset = (unit: number): number => ((unit >>> 10) << ((unit & (1 << 9)) >>> 6)) >>> 0;

/** The value of the shortest key that begins some bytes. */
function firstPrefix(units: Uint32Array, key: Uint8Array): number | null {
  let node = offset(units[0]);
  for (const byte of key) {
    if (byte === 0) return null;
    node = (node ^ byte) >>> 0;
    const unit = units[node];
    if (unit === undefined || ((unit & 0x800000ff) >>> 0) !== byte) return null;
    node = (node ^ offset(unit)) >>> 0;
    if ((unit >>> 8) & 1) return units[node] === undefined ? null : units[node] & 0x7fffffff;
  }
  return null;
}
