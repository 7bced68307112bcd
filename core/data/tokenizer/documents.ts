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
import { tokenList } from "./token_list.ts";

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
  const packed = packer(tokenizer);
  const texts = packed.framed ? documents : [documents.join("\n\n")];
  for (const text of texts) packed.add(tokenizer.encode(text), { ends: true });
  return packed.take();
}

/** Packs documents that may come in pieces. */
export interface Packer {
  /** Whether something begins or ends a document. Otherwise all documents are to come as one, with blank lines between. */
  readonly framed: boolean;
  /** Adds the ids of the next piece of a document, and ends the document. */
  add(ids: readonly number[], options: { readonly ends: boolean }): void;
  /** Returns the stream. */
  take(): Int32Array<ArrayBuffer>;
}

/**
 * Makes what packs the ids of documents into one stream, as {@link packDocuments} does.
 *
 * @param tokenizer The tokenizer
 * @returns The packer
 */
export function packer({ before, after, eos }: Encoder): Packer {
  const shared = eos !== null && before.length === 1 && before[0] === eos, list = tokenList();
  let documents = 0, begun = false;
  // EOS that were read and not added: those at the end of a document become one.
  let held = 0;
  function put(ids: readonly number[]): void {
    const end = ids.findLastIndex((id) => id !== eos) + 1;
    if (end > 0) {
      list.push(Array(held).fill(eos));
      list.push(ids.slice(0, end));
      held = 0;
    }
    held += ids.length - end;
  }
  return {
    framed: eos !== null || before.length + after.length > 0,
    add(ids, { ends }) {
      if (!begun && (ids.length > 0 || ends)) {
        begun = true;
        if (!shared || documents === 0) list.push(before);
        if (before.every((id, i) => ids[i] === id)) ids = ids.slice(before.length);
      }
      put(ids);
      if (!ends) return;
      put(after);
      if (eos !== null) list.push([eos]);
      [documents, begun, held] = [documents + 1, false, 0];
    },
    take: list.take,
  };
}
