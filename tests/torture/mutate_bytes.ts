/**
 * Damages bytes, whatever they mean.
 *
 * @module
 */

import { type Draw, oneOf } from "./draw.ts";

const TOKENS = ["\u001b[2J", "\u0000", "\ufeff", "{{", "NaN", "1e999", '"', "\\u0000", "\r", "---\n"];

const join = (...parts: readonly Uint8Array[]): Uint8Array => {
  const bytes = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) bytes.set(part, at), at += part.length;
  return bytes;
};

const inserted = (bytes: Uint8Array, at: number, more: Uint8Array): Uint8Array =>
  join(bytes.subarray(0, at), more, bytes.subarray(at));

/** Text as UTF-16, as some editors save it. */
const wide = (bytes: Uint8Array): Uint8Array =>
  Uint8Array.from([0xff, 0xfe, ...[...bytes].flatMap((byte) => [byte, 0])]);

const DAMAGES: readonly ((bytes: Uint8Array, draw: Draw) => Uint8Array)[] = [
  (bytes, draw) => bytes.with(draw(bytes.length), draw(256)),
  (bytes, draw) => {
    const at = draw(bytes.length);
    return bytes.with(at, bytes[at] ^ 1 << draw(8));
  },
  (bytes, draw) => bytes.slice(0, draw(bytes.length)),
  (bytes, draw) => bytes.slice(draw(bytes.length)),
  (bytes, draw) => join(bytes, new Uint8Array(1 + draw(64)).map(() => draw(256))),
  (bytes, draw) => inserted(bytes, draw(bytes.length), new Uint8Array(1 + draw(16)).map(() => draw(256))),
  (bytes, draw) => inserted(bytes, draw(bytes.length), new TextEncoder().encode(oneOf(draw, TOKENS))),
  (bytes, draw) => {
    const at = draw(bytes.length);
    return join(bytes.subarray(0, at), bytes.subarray(at + 1 + draw(16)));
  },
  (bytes, draw) => {
    const at = draw(bytes.length);
    return inserted(bytes, at, bytes.subarray(at, at + 1 + draw(200)));
  },
  (bytes, draw) => {
    const at = draw(bytes.length);
    return bytes.slice().fill(oneOf(draw, [0, 255]), at, at + 1 + draw(64));
  },
  wide,
  () => new Uint8Array(),
];

/**
 * Damages bytes.
 *
 * @param bytes The bytes, at least one
 * @param draw Random numbers
 * @returns Other bytes
 */
export function mutateBytes(bytes: Uint8Array, draw: Draw): Uint8Array {
  return oneOf(draw, DAMAGES)(bytes, draw);
}
