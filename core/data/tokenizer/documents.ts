/**
 * The one rule of what begins and ends a text.
 *
 * | | begins with | ends with |
 * | --- | --- | --- |
 * | document to train on | what the tokenizer puts before a text | one EOS; where there is none, what the tokenizer puts after |
 * | prompt to continue | what the tokenizer puts before a text | nothing |
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import type { Tokenizer } from "./load_tokenizer.ts";

/** What the rule needs of a tokenizer. */
export type Encoder = Pick<Tokenizer, "encode" | "eos" | "before" | "after">;

/**
 * Encodes a document to train on. It begins with BOS if the tokenizer puts one before a text, and ends with EOS once,
 * whether or not the tokenizer appends it.
 *
 * @param tokenizer The tokenizer
 * @param text The document
 * @returns Its ids
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { encodeDocument, loadTokenizer } from "@firn/train/data";
 *
 * const tokenizer = await loadTokenizer("examples/models/sotu");
 * assertEquals(encodeDocument(tokenizer, "Peace"), [...tokenizer.encode("Peace"), tokenizer.eos]);
 * ```
 */
export function encodeDocument(tokenizer: Encoder, text: string): number[] {
  const { eos, before } = tokenizer;
  const ids = [...encodePrompt(tokenizer, text), ...tokenizer.after];
  if (eos === null) return ids;
  while (ids.length > before.length && ids.at(-1) === eos) ids.pop();
  return [...ids, eos];
}

/**
 * Encodes a text to be continued. It begins with BOS if the tokenizer puts one before a text, and never ends with EOS.
 *
 * @param tokenizer The tokenizer
 * @param text The text
 * @returns Its ids
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { encodePrompt, loadTokenizer } from "@firn/train/data";
 *
 * const tokenizer = await loadTokenizer("examples/models/sotu"); // puts nothing before a text
 * assertEquals(encodePrompt(tokenizer, "Peace"), tokenizer.encode("Peace"));
 * ```
 */
export function encodePrompt(tokenizer: Encoder, text: string): number[] {
  const ids = tokenizer.encode(text), { before } = tokenizer;
  // A text that spells out its beginning has it already.
  return before.every((id, i) => ids[i] === id) ? ids : [...before, ...ids];
}

/**
 * Encodes documents and packs them into one stream for `tokenWindows`. Where BOS and EOS are one token, it stands once
 * between two documents. Where nothing begins or ends a document, a blank line stands between two.
 *
 * @param tokenizer The tokenizer
 * @param documents The documents
 * @returns The stream
 * @throws {InputError} When there is no document
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { loadTokenizer, packDocuments } from "@firn/train/data";
 *
 * const tokenizer = await loadTokenizer("examples/models/sotu"), end = tokenizer.eos!;
 * const [war, peace] = ["War", "Peace"].map(tokenizer.encode);
 * assertEquals([...packDocuments(tokenizer, ["War", "Peace"])], [...war, end, ...peace, end]);
 * ```
 */
export function packDocuments(tokenizer: Encoder, documents: readonly string[]): Int32Array<ArrayBuffer> {
  if (documents.length === 0) {
    throw new InputError('Cannot pack "documents" as there is none: give at least one');
  }
  const { before, after, eos } = tokenizer;
  if (eos === null && before.length + after.length === 0) {
    return Int32Array.from(tokenizer.encode(documents.join("\n\n")));
  }
  const shared = eos !== null && before.length === 1 && before[0] === eos;
  const parts = documents.map((text, i) => {
    const ids = encodeDocument(tokenizer, text);
    return Int32Array.from(shared && i > 0 ? ids.slice(1) : ids);
  });
  const stream = new Int32Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    stream.set(part, at);
    at += part.length;
  }
  return stream;
}
