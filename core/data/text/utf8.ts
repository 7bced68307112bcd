/**
 * Text of a file, read in chunks.
 *
 * @module
 */

import { DataError } from "../../errors.ts";
import type { OpenFile } from "../../host/file_system.ts";

/** Bytes of a chunk. */
const CHUNK = 2 ** 18;

/**
 * Reads the text of a file in chunks, each of whole characters. U+FEFF at the very beginning is left out, as it marks the
 * encoding; elsewhere it is text.
 *
 * @param file The file
 * @param options `path`: its name, for errors; `chunk`: bytes to read at once
 * @returns The text; none of the chunks is empty
 * @throws {DataError} When it is not UTF-8, which names the byte, or becomes shorter while it is read
 */
export async function* readUtf8(
  file: OpenFile,
  { path, chunk = CHUNK }: { readonly path: string; readonly chunk?: number },
): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let rest = new Uint8Array(), start = 0;
  for (let begin = 0; begin < file.size; begin += chunk) {
    const end = Math.min(begin + chunk, file.size), read = await file.read(begin, end);
    if (read.length < end - begin) {
      throw new DataError(
        `Cannot read "${path}" as it must stay as it is while it is read: it became shorter; start again`,
      );
    }
    const bytes = rest.length === 0 ? read : joined(rest, read);
    const whole = end === file.size ? bytes.length : wholeCharacters(bytes);
    let text: string;
    try {
      text = decoder.decode(bytes.subarray(0, whole));
    } catch (error) {
      const bad = firstBad(bytes);
      throw new DataError(
        `Cannot read "${path}" as text must be UTF-8: the byte at offset ${start + bad} is 0x${
          bytes[bad].toString(16).padStart(2, "0")
        }, which begins no character; save it as UTF-8`,
        { cause: error },
      );
    }
    if (start === 0 && text.startsWith("\ufeff")) text = text.slice(1);
    if (text !== "") yield text;
    rest = bytes.slice(whole);
    start += whole;
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(a.length + b.length);
  bytes.set(a);
  bytes.set(b, a.length);
  return bytes;
}

/** How many bytes are left without a character whose end is missing. */
function wholeCharacters(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if (byte >= 0x80 && byte < 0xc0) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

/** Where the first character begins that is none. A decoder does not say, so it gets one byte at a time. */
function firstBad(bytes: Uint8Array): number {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let good = 0;
  for (let i = 0; i < bytes.length; i++) {
    try {
      if (decoder.decode(bytes.subarray(i, i + 1), { stream: true }) !== "") good = i + 1;
    } catch {
      return good;
    }
  }
  return good;
}
