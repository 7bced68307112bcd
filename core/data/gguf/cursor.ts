/**
 * Reads the beginning of a file whose length is not known before it is read.
 *
 * @module
 */

import { counted } from "../../counted.ts";
import type { OpenFile } from "../../host/file_system.ts";
import { invalid } from "../safetensors_header.ts";

/** A computation that asks for bytes up to a position and goes on once they are there. */
export type Parse<T> = Generator<number, T, void>;

/** What was read, and how far it was understood. */
export interface Cursor {
  /** Takes so many bytes; returns where they begin. */
  take(count: number): Parse<number>;
  /** Bytes that the file and the longest header have left. */
  left(): number;
  /** The bytes that are there, as numbers; another view after each `take`. */
  readonly view: DataView<ArrayBuffer>;
  /** The bytes that are there. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Bytes that were taken. */
  readonly at: number;
}

/** Bytes of the first read, and of the longest header: the largest vocabularies take 30 MB. */
const FIRST = 2 ** 20, LONGEST = 2 ** 27;

/**
 * Runs a parser over the beginning of a file. It reads no more than twice what the parser takes, and 1 MiB.
 *
 * @param file The file
 * @param options Its path for errors, and the parser
 * @returns What the parser returns
 * @throws {DataError} When the parser wants more than the file has, or than 128 MiB
 */
export async function parseHead<T>(
  file: OpenFile,
  { path, parse }: { readonly path: string; readonly parse: (cursor: Cursor) => Parse<T> },
): Promise<T> {
  let bytes = new Uint8Array(0), view = new DataView(bytes.buffer), at = 0;
  const limit = Math.min(file.size, LONGEST);
  const cursor: Cursor = {
    *take(count) {
      const begin = at;
      if (begin + count > bytes.length) yield begin + count;
      at = begin + count;
      return begin;
    },
    left: () => limit - at,
    get view() {
      return view;
    },
    get bytes() {
      return bytes;
    },
    get at() {
      return at;
    },
  };
  const parser = parse(cursor);
  for (let step = parser.next();; step = parser.next()) {
    if (step.done) return step.value;
    const wanted = step.value;
    if (!(wanted <= limit)) {
      const seen = limit < file.size
        ? `it wants more than ${LONGEST}; it is damaged or no GGUF file`
        : `it has ${file.size} of ${wanted}; it is cut short or damaged: get it again`;
      throw invalid(path, "its header must be in its first bytes", seen);
    }
    const end = Math.min(limit, Math.max(wanted, 2 * bytes.length, FIRST));
    const more = await file.read(bytes.length, end), grown = new Uint8Array(end);
    if (more.length < end - bytes.length) {
      throw invalid(
        path,
        `it must have ${counted(file.size, "byte")}`,
        "it was cut while open: get it again",
      );
    }
    grown.set(bytes);
    grown.set(more, bytes.length);
    [bytes, view] = [grown, new DataView(grown.buffer)];
  }
}
