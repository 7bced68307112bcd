/**
 * Templates of chats and what transformers makes of them, for tests.
 *
 * @module
 */

import {
  type ChatTemplate,
  chatTemplate,
  type Conversation,
  loadTokenizer,
  memoryFileSystem,
  type Tokenizer,
} from "@firn/train/data";

const FOLDER = "tests/fixtures/chat", NOW = new Date(2026, 10, 29, 9, 5, 7);

/** What a template makes of a conversation. */
export interface Expected {
  readonly text?: string;
  readonly ids?: readonly number[];
  readonly mask?: string;
  readonly error?: string;
}

/** Conversations and what templates make of them. */
export interface Recorded {
  readonly tokens: readonly string[];
  readonly conversations: Readonly<Record<string, Conversation & { add_generation_prompt?: boolean }>>;
  readonly expected: Readonly<Record<string, Readonly<Record<string, Expected>>>>;
}

/** What transformers made of these conversations, template by template. */
export const RECORDED: Recorded = JSON.parse(await Deno.readTextFile(`${FOLDER}/expected.json`));
const TOKENS = { bos_token: "<s>", eos_token: "</s>" };

/** The bundled tokenizer, with the special tokens of all templates. */
export async function chatTokenizer(): Promise<Tokenizer> {
  const json = JSON.parse(await Deno.readTextFile("examples/models/sotu/tokenizer.json"));
  const first = Object.keys(json.model.vocab).length;
  const added = RECORDED.tokens.map((content, i) => ({ ...json.added_tokens[0], id: first + i, content }));
  const settings = { bos_token: "<s>", eos_token: "</s>" };
  const fileSystem = memoryFileSystem({
    "m/tokenizer.json": JSON.stringify({ ...json, added_tokens: [...json.added_tokens, ...added] }),
    "m/tokenizer_config.json": JSON.stringify(settings),
    "m/generation_config.json": JSON.stringify({
      eos_token_id: ["</s>", "<|im_end|>", "<|eot_id|>"].map((token) =>
        first + RECORDED.tokens.indexOf(token)
      ),
    }),
  });
  return await loadTokenizer("m", { fileSystem });
}

/** A template of the fixtures. */
export async function templateOf(
  name: string,
  variables: Readonly<Record<string, unknown>> = {},
): Promise<ChatTemplate> {
  return chatTemplate(await Deno.readTextFile(`${FOLDER}/${name}.jinja`), {
    path: name,
    tokens: TOKENS,
    variables,
    now: NOW,
  });
}
