/**
 * Examples of every kind as samples.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import type { ChatTemplate } from "../chat/chat_template.ts";
import { encodeChat } from "../chat/encode_chat.ts";
import type { Example } from "../rows/example.ts";
import type { Tokenizer } from "../tokenizer/load_tokenizer.ts";
import { encodeExample, type Learned, type Sample } from "./sample.ts";

/** Options of {@link sampleEncoder}. */
export interface SampleEncoderOptions {
  /** The template of conversations; they are refused when absent or null. */
  readonly template?: ChatTemplate | null;
  /** Which tokens are learned: those of answers and completions, and all of a text, when absent. */
  readonly loss?: Learned;
}

/**
 * Makes what encodes examples: texts, completions and conversations.
 *
 * @param tokenizer The tokenizer
 * @param options The template of conversations, and which tokens are learned
 * @returns From an example to its sample
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { chatTemplate, loadTokenizer, sampleEncoder } from "@firn/train/data";
 *
 * const tokenizer = await loadTokenizer("examples/models/sotu");
 * const template = chatTemplate("{% for m in messages %}{{ m.role }}: {{ m.content }}.{% endfor %}");
 * const encode = sampleEncoder(tokenizer, { template, loss: "all" });
 * const { ids } = encode({ kind: "chat", messages: [{ role: "user", content: "Peace" }] });
 * assertEquals(tokenizer.decode(ids), "user: Peace.");
 * ```
 */
export function sampleEncoder(
  tokenizer: Tokenizer,
  { template = null, loss }: SampleEncoderOptions = {},
): (example: Example) => Sample {
  return (example) => {
    if (example.kind !== "chat") return encodeExample(tokenizer, example, { loss });
    if (template !== null) return encodeChat(tokenizer, example, { template, loss });
    throw new InputError(
      "Cannot encode a conversation as there must be a chat template: the model has none; name a file with one",
    );
  };
}
