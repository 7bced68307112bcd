/**
 * Damages safetensors files: the header, with the length before it or without, or the bytes.
 *
 * @module
 */

import type { Draw } from "./draw.ts";
import { mutateBytes } from "./mutate_bytes.ts";
import { mutateJson } from "./mutate_json.ts";

/**
 * Splits a file.
 *
 * @param bytes The file
 * @returns Its header as text, and what follows
 */
export function splitFile(bytes: Uint8Array): { readonly header: string; readonly body: Uint8Array } {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  return {
    header: new TextDecoder().decode(bytes.subarray(8, 8 + length)),
    body: bytes.subarray(8 + length),
  };
}

/**
 * Makes a file.
 *
 * @param header Its header as text
 * @param body What follows
 * @returns The file
 */
export function joinFile(header: string, body: Uint8Array): Uint8Array {
  const json = new TextEncoder().encode(header), bytes = new Uint8Array(8 + json.length + body.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  bytes.set(body, 8 + json.length);
  return bytes;
}

/** Damages the header. */
export function mutateHeader(bytes: Uint8Array, draw: Draw): Uint8Array {
  const { header, body } = splitFile(bytes);
  return draw(6) === 0
    ? bytes.with(draw(8), draw(256)) // its length
    : joinFile(mutateJson(header, draw), body);
}

/** Damages what follows the header: values of tensors, and the end of the file. */
export function mutateBody(bytes: Uint8Array, draw: Draw): Uint8Array {
  const { header, body } = splitFile(bytes);
  if (draw(3) > 0) return joinFile(header, mutateBytes(body, draw));
  // Infinite, NaN, or far too large.
  const values = body.slice(),
    view = new DataView(values.buffer),
    at = 4 * draw(Math.floor(values.length / 4));
  view.setUint32(at, [0x7f800000, 0xffc00000, 0x7f7fffff, 0x7f800001][draw(4)], true);
  return joinFile(header, values);
}
