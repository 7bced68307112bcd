/**
 * Samples: the token ids of an example, and which of them are learned.
 *
 * @module
 */

import type { Tokenizer } from "../tokenizer/load_tokenizer.ts";
import { encodeDocument, encodePrompt } from "../tokenizer/documents.ts";
import { InputError } from "../../errors.ts";
import type { CompletionExample, Example } from "../rows/example.ts";

/** Token ids. */
export interface Sample {
  /** The ids, T. */
  readonly ids: Int32Array<ArrayBuffer>;
  /** For each id 1 where it is learned, else 0. */
  readonly learned: Uint8Array<ArrayBuffer>;
}

/** Which tokens are learned: all, those of a completion or of the last answer, or those of all answers. */
export type Learned = "all" | "completion" | "assistant";

/** What encoding needs of a tokenizer. */
export type SampleTokenizer = Pick<Tokenizer, "encode" | "eos" | "before" | "after">;

/**
 * Encodes a text, or a prompt and its completion. Both begin and end as documents to train on do (see `encodeDocument`). Of a
 * prompt and its completion, which are encoded as one text, the completion and what ends it are learned; a token that reaches
 * from one into the other belongs to the completion.
 *
 * @param tokenizer The tokenizer
 * @param example The example
 * @param options `loss`: which tokens are learned; the completion where there is one, when absent
 * @returns The sample
 * @throws {InputError} When it is an example of another kind
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { encodeExample, loadTokenizer } from "@firn/train/data";
 *
 * const tokenizer = await loadTokenizer("examples/models/sotu");
 * const example = { kind: "completion", prompt: "The state of", completion: " the union" } as const;
 * const { ids, learned } = encodeExample(tokenizer, example);
 * assertEquals(tokenizer.decode(ids.filter((_, i) => learned[i] === 1)), " the union");
 * assertEquals([ids.at(-1), learned.at(-1)], [tokenizer.eos, 1]);
 * ```
 */
export function encodeExample(
  tokenizer: SampleTokenizer,
  example: Example,
  { loss }: { readonly loss?: Learned } = {},
): Sample {
  if (example.kind === "completion") return encodeCompletion(tokenizer, example, loss ?? "completion");
  if (example.kind === "text") {
    const ids = encodeDocument(tokenizer, example.text);
    return { ids: Int32Array.from(ids), learned: new Uint8Array(ids.length).fill(1) };
  }
  throw new InputError(
    `Cannot encode an example of kind "${example.kind}" as text: give text or a completion`,
  );
}

function encodeCompletion(
  tokenizer: SampleTokenizer,
  { prompt, completion }: CompletionExample,
  loss: Learned,
): Sample {
  const ids = encodeDocument(tokenizer, prompt + completion);
  const border = loss === "all" ? 0 : commonLength(encodePrompt(tokenizer, prompt), ids);
  return { ids: Int32Array.from(ids), learned: new Uint8Array(ids.length).fill(1, border) };
}

/**
 * How many ids, or characters, two lists begin with alike.
 *
 * @param a Ids
 * @param b Ids
 * @returns The number
 */
export function commonLength(a: ArrayLike<unknown>, b: ArrayLike<unknown>): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}
