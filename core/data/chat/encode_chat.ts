/**
 * Conversations as samples: which tokens are answers.
 *
 * @module
 */

import { DataError } from "../../errors.ts";
import type { ChatExample } from "../rows/example.ts";
import type { Conversation, Message } from "../rows/conversation.ts";
import { commonLength, type Learned, type Sample } from "../samples/sample.ts";
import type { Tokenizer } from "../tokenizer/load_tokenizer.ts";
import type { ChatTemplate } from "./chat_template.ts";

/** Where an answer stands in a text: begin and end. */
export type Span = readonly [begin: number, end: number];

/**
 * Finds the answers in the text of a conversation. A template that marks them with `{% generation %}` says it itself. Any other
 * is rendered up to each answer and up to its end, and what is between is the answer; such a template must give a conversation
 * the text that a longer one begins with.
 *
 * @param template The template
 * @param conversation The conversation
 * @param options `from`: messages before it are no answers; 0 when absent
 * @returns The text, and the answers of messages of the role `assistant`; those of the weight 0 are empty or missing
 * @throws {DataError} When the template refuses the conversation, or does not keep the beginning of a text
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { answersOf, chatTemplate } from "@firn/train/data";
 *
 * const template = chatTemplate(
 *   "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",
 * );
 * const messages = [{ role: "user", content: "Hi" }, { role: "assistant", content: "Ho" }];
 * const { text, answers } = answersOf(template, { messages });
 * assertEquals(answers.map(([begin, end]) => text.slice(begin, end)), ["Ho\n"]);
 * ```
 */
export function answersOf(
  template: ChatTemplate,
  conversation: Conversation,
  { from = 0 }: { readonly from?: number } = {},
): { readonly text: string; readonly answers: readonly Span[] } {
  const { messages } = conversation, rendered = template.render(conversation);
  const upTo = (count: number): Conversation => ({ ...conversation, messages: messages.slice(0, count) });
  if (template.marksAnswers) {
    const before = from === 0 ? 0 : template.render(upTo(from)).answers.length;
    return { text: rendered.text, answers: weighed(rendered.answers, { messages, template }).slice(before) };
  }
  const refuse = (message: number, what: string): never => {
    throw new DataError(
      `Cannot find the answers of a conversation as the chat template of "${template.path}" must make the beginning of its ` +
        `text of the beginning of the conversation: it does not ${what} message ${
          message + 1
        }; mark answers with ` +
        "{% generation %} in a template of your own, or learn all",
    );
  };
  const answers = messages.flatMap(({ role, weight }, i): Span[] => {
    if (role !== "assistant" || i < from) return [];
    const before = i === 0 ? "" : template.render(upTo(i), { addGenerationPrompt: true }).text;
    const after = i === messages.length - 1 ? rendered.text : template.render(upTo(i + 1)).text;
    if (!rendered.text.startsWith(after)) refuse(i, "up to the end of");
    if (!after.startsWith(before)) refuse(i, "up to the beginning of");
    return weight === 0 ? [] : [[before.length, after.length]];
  });
  return { text: rendered.text, answers };
}

/** Answers that a template marks; of those with the weight 0, nothing. */
function weighed(
  answers: readonly Span[],
  { messages, template }: { readonly messages: readonly Message[]; readonly template: ChatTemplate },
): readonly Span[] {
  const said = messages.filter(({ role }) => role === "assistant");
  if (!said.some(({ weight }) => weight === 0)) return answers;
  if (said.length !== answers.length) {
    throw new DataError(
      `Cannot leave out answers of weight 0 as the chat template of "${template.path}" must mark each answer once: it marks ` +
        `${answers.length} of ${said.length}; mark each`,
    );
  }
  return answers.map(([begin, end], i): Span => [begin, said[i].weight === 0 ? begin : end]);
}

/**
 * Encodes a conversation. The template writes what begins and ends it. Of an answer, nothing is learned that follows the token
 * by which generation stops.
 *
 * @param tokenizer The tokenizer
 * @param example The conversation
 * @param options The template; `loss`: which tokens are learned, those of the last answer with `completion`; those of all
 * answers when absent
 * @returns The sample
 * @throws {DataError} When the template refuses the conversation, or the answers cannot be found
 */
export function encodeChat(
  { encode, decode, stop }: Pick<Tokenizer, "encode" | "decode" | "stop">,
  example: ChatExample,
  { template, loss = "assistant" }: { readonly template: ChatTemplate; readonly loss?: Learned },
): Sample {
  if (loss === "all") {
    const ids = Int32Array.from(encode(template.render(example).text));
    return { ids, learned: new Uint8Array(ids.length).fill(1) };
  }
  const last = example.messages.findLastIndex(({ role }) => role === "assistant");
  const from = loss === "completion" ? Math.max(last, 0) : example.answersFrom ?? 0;
  const { text, answers } = answersOf(template, example, { from });
  const ids = Int32Array.from(encode(text)), learned = new Uint8Array(ids.length);
  let place: Place = { at: 0, token: 0, whole: true };
  for (const [begin, end] of answers.filter(([begin, end]) => begin < end)) {
    place = placeOf(text, begin, { encode, ids, known: place });
    const first = place.token;
    place = placeOf(text, end, { encode, ids, known: place });
    const behind = place.whole ? place.token : place.token + 1;
    const stops = ids.subarray(first, behind).findLastIndex((id) => stop.includes(id));
    const ended = stops >= 0 && decode(ids.subarray(first + stops + 1, behind)).trim() === "";
    learned.fill(1, first, ended ? first + stops + 1 : behind);
  }
  return { ids, learned };
}

/** A place in a text, and the token that begins there, or in which it lies. */
interface Place {
  readonly at: number;
  readonly token: number;
  /** Whether a token begins there. */
  readonly whole: boolean;
}

/** Finds the token of a place from one before it where a token begins, if there is one. */
function placeOf(
  text: string,
  at: number,
  { encode, ids, known }: {
    readonly encode: Tokenizer["encode"];
    readonly ids: Int32Array;
    readonly known: Place;
  },
): Place {
  const from = known.whole ? known : { at: 0, token: 0 };
  const part = encode(text.slice(from.at, at)), same = commonLength(part, ids.subarray(from.token));
  if (same === part.length) return { at, token: from.token + same, whole: true };
  // Some tokenizers write a text otherwise that begins elsewhere.
  const before = encode(text.slice(0, at)), token = commonLength(before, ids);
  return { at, token, whole: token === before.length };
}
