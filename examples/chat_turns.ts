/**
 * A conversation with a model, turn by turn. The cache keeps what all turns so far begin with.
 *
 * @module
 */

import { InputError } from "@firn/train";
import {
  defineGeneration,
  type Generation,
  type GenerationState,
  type Sampling,
  textDecoder,
} from "@firn/train/infer";
import { type ChatTemplate, loadChatTemplate, type Message } from "@firn/train/data";
import type { Reader } from "./prompting.ts";

/** A conversation that goes on. */
export interface Chat extends Disposable {
  /** The messages so far. */
  readonly messages: readonly Message[];
  /** Forgets all messages but those that it began with. */
  reset(): void;
  /** Asks, and gives the answer piece by piece. The answer is kept also if nobody takes all of it. */
  ask(question: string): AsyncGenerator<string, void, undefined>;
  /** The tokens of the last answer, and the milliseconds from the first one to the last. */
  readonly pace: { readonly tokens: number; readonly milliseconds: number };
}

/** Options of {@link startChat}. */
export interface ChatOptions {
  /** Turns messages into text. */
  readonly template: ChatTemplate;
  /** What the model is told before the first message; nothing when null. */
  readonly system: string | null;
  /** Most tokens of an answer. */
  readonly maxTokens: number;
  /** How tokens are chosen. */
  readonly sampling: Sampling;
  /** Texts that end an answer. */
  readonly stop: readonly string[];
}

/** Tokens that are read at once, once they come fast. */
const AT_ONCE = 8;

/**
 * The template of chats of a model.
 *
 * @param folder Its folder
 * @param file A file with one in place of that; null for none
 * @returns The template
 * @throws {InputError} When there is none
 */
export async function templateOf(folder: string, file: string | null): Promise<ChatTemplate> {
  const template = await loadChatTemplate(folder, { file: file ?? undefined });
  if (template !== null) return template;
  throw new InputError(
    `Cannot chat with "${folder}" as it must have a chat template: it has none, so it was not made for chats; ` +
      "take another model, or give a template with --chat-template",
  );
}

/**
 * Starts a conversation.
 *
 * @param reader The model
 * @param options Template, length of answers, how tokens are chosen
 * @returns The conversation
 */
export function startChat({ gpu, model, tokenizer }: Reader, options: ChatOptions): Chat {
  const { template, system, maxTokens, sampling, stop } = options;
  const first: readonly Message[] = system === null ? [] : [{ role: "system", content: system }];
  const generation: Generation = defineGeneration(gpu, model, { ...sampling, stop: tokenizer.stop });
  let messages = first, state: GenerationState | undefined, pace = { tokens: 0, milliseconds: 0 };
  // Long answers must not push out all that was said.
  const kept = Math.min(maxTokens, model.maxLength >> 1);
  /** The ids of messages. The oldest ones are left out where there is no room for all. */
  function idsOf(all: readonly Message[]): number[] {
    for (let dropped = 0;; dropped += 2) {
      const rest = [...first, ...all.slice(first.length + dropped)];
      const ids = tokenizer.encode(template.render({ messages: rest }, { addGenerationPrompt: true }).text);
      if (ids.length + kept <= model.maxLength) return ids;
      if (rest.length > first.length + 2) continue;
      if (ids.length < model.maxLength) return ids;
      throw new InputError(
        `Cannot answer as the model reads ${model.maxLength} tokens at most: the message has ${ids.length}; ` +
          "write a shorter one",
      );
    }
  }
  return {
    get messages() {
      return messages;
    },
    get pace() {
      return pace;
    },
    reset() {
      messages = first;
    },
    async *ask(question) {
      const asked: readonly Message[] = [...messages, { role: "user", content: question }];
      const ids = idsOf(asked), decoder = textDecoder(tokenizer, { before: ids, stop });
      let answer = "";
      messages = asked;
      pace = { tokens: 0, milliseconds: 0 };
      try {
        state = await generation.init([ids], { from: state });
        const room = Math.max(1, Math.min(maxTokens, model.maxLength - ids.length));
        let start = 0;
        for (let left = room, count = 1; left > 0 && !state.done && !decoder.stopped; left -= count) {
          count = state.sequences[0].generated > AT_ONCE && pace.milliseconds < 40 * pace.tokens
            ? AT_ONCE
            : 1;
          state = await generation.next(state, Math.min(count, left));
          const { added, generated } = state.sequences[0];
          if (start === 0) start = performance.now();
          pace = { tokens: generated, milliseconds: performance.now() - start };
          const text = decoder.add(added);
          answer += text;
          if (text !== "") yield text;
        }
        const rest = decoder.end();
        answer += rest;
        if (rest !== "") yield rest;
      } finally {
        messages = [...messages, { role: "assistant", content: answer }];
      }
    },
    [Symbol.dispose]: () => generation[Symbol.dispose](),
  };
}
