/**
 * Where a template puts the answers of a conversation.
 *
 * @module
 */

import { DataError } from "../../errors.ts";
import type { Conversation, Message } from "../rows/conversation.ts";
import { commonLength } from "../samples/sample.ts";
import type { ChatTemplate } from "./chat_template.ts";

/** Where an answer stands in a text: begin and end. */
export type Span = readonly [begin: number, end: number];

/** What stands in for an answer to see where a template puts it. Unicode keeps it free, so that no text has it. */
const PROBE = "\ufdd2";

/**
 * Finds the answers in the text of a conversation. A template that marks them with `{% generation %}` says it itself. Any other
 * is rendered up to each answer and up to its end: what is between is the answer, as a model is to write it. Where the
 * whole text has less of it, as Qwen 3 leaves out earlier thoughts, the answer is what both have.
 *
 * @param template The template
 * @param conversation The conversation
 * @param options `from`: messages before it are no answers; 0 when absent
 * @returns The text, and the answers of messages of the role `assistant`; those of the weight 0 are empty or missing
 * @throws {DataError} When the template refuses the conversation, or an answer cannot be told from what is around it
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
  const { messages } = conversation, { text, answers } = template.render(conversation);
  if (template.marksAnswers) {
    const before = from === 0 ? 0 : template.render(upTo(conversation, from)).answers.length;
    return { text, answers: weighed(answers, { messages, template }).slice(before) };
  }
  const found = messages.flatMap(({ role, weight }, at): Span[] =>
    role !== "assistant" || at < from || weight === 0 ? [] : [spanOf(template, { conversation, text, at })]
  );
  return { text, answers: found };
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

/** A message of a conversation, and the text of the whole. */
interface Place {
  readonly conversation: Conversation;
  readonly text: string;
  readonly at: number;
}

const upTo = (conversation: Conversation, count: number): Conversation => ({
  ...conversation,
  messages: conversation.messages.slice(0, count),
});

/** The conversation with the probe instead of an answer. */
const probed = (conversation: Conversation, at: number): Conversation => ({
  ...conversation,
  messages: conversation.messages.with(at, { role: "assistant", content: PROBE }),
});

/** The answer of a message. */
function spanOf(template: ChatTemplate, { conversation, text, at }: Place): Span {
  const last = at === conversation.messages.length - 1;
  const said = last ? text : template.render(upTo(conversation, at + 1)).text;
  const before = at === 0
    ? null
    : template.render(upTo(conversation, at), { addGenerationPrompt: true }).text;
  if (before !== null && said.startsWith(before) && text.startsWith(said)) {
    return [before.length, said.length];
  }
  const empty = template.render(probed(upTo(conversation, at + 1), at)).text;
  const begin = beginOf(template, { before, empty });
  if (begin === null || !said.startsWith(empty.slice(0, begin))) throw unclear(template, at, "beginning");
  if (text.startsWith(said)) return [begin, said.length];
  const span = laterSpan(template, { conversation, text, at, said, empty, begin });
  if (span === null) throw unclear(template, at, "text");
  return span;
}

/** Where an answer begins: behind what is rendered before it is there, as far as that stays. Null when that is unclear. */
function beginOf(
  template: ChatTemplate,
  { before, empty }: {
    /** The text before the answer; null when it is the first message. */
    readonly before: string | null;
    /** The text up to the answer, which is the probe. */
    readonly empty: string;
  },
): number | null {
  const content = empty.indexOf(PROBE);
  if (before !== null) {
    const same = commonLength(before, empty);
    // A prompt that goes on otherwise, as one with `<think>`, must have all that stands before an answer.
    return same === before.length || same === content ? same : null;
  }
  if (content < 0) return null;
  const opening = openingOf(template, QUESTION), found = empty.slice(0, content).lastIndexOf(opening);
  return opening === "" || found < 0 ? content : found + opening.length;
}

/** What comes before an answer that has nothing before it. */
const QUESTION: Conversation = { messages: [{ role: "user", content: PROBE }] };

/** What a template adds for an answer to begin. */
function openingOf(template: ChatTemplate, conversation: Conversation): string {
  const before = template.render(conversation).text;
  const after = template.render(conversation, { addGenerationPrompt: true }).text;
  return after.startsWith(before) ? after.slice(before.length) : "";
}

/** An answer in a text that does not begin as it did when the answer was its end; null when it has another answer. */
function laterSpan(
  template: ChatTemplate,
  { conversation, text, at, said, empty, begin }: Place & {
    /** The text up to the end of the answer, when there was no more. */
    readonly said: string;
    /** The same with the probe as the answer. */
    readonly empty: string;
    /** Where the answer begins in both. */
    readonly begin: number;
  },
): Span | null {
  const other = template.render(probed(conversation, at)).text;
  const first = commonLength(text, other), behind = text.length - commonEnd(text, other, first);
  // What ended the message when the text ended there; of that, what ends it here.
  const close = said.slice(said.length - commonEnd(said, empty, begin));
  const end = behind + commonLength(close, text.slice(behind));
  const whole = said.slice(0, said.length - close.length + end - behind);
  const from = end - Math.min(commonEnd(text.slice(0, end), whole), whole.length - begin);
  // An answer may have been trimmed where it was the last one.
  if (text === other || text.slice(first, from).trim() !== "") return null;
  const opening = openingOf(template, at === 0 ? QUESTION : upTo(conversation, at));
  return [opening !== "" && text.slice(0, first).endsWith(opening) ? Math.max(first, from) : from, end];
}

/** How many characters both texts end with, but no more than one has behind `from`. */
function commonEnd(a: string, b: string, from = 0): number {
  const most = Math.min(a.length, b.length) - from;
  let count = 0;
  while (count < most && a[a.length - 1 - count] === b[b.length - 1 - count]) count++;
  return count;
}

function unclear(template: ChatTemplate, at: number, what: "beginning" | "text"): DataError {
  const rule = what === "text"
    ? "keep the text of an answer when more messages follow: it changes that"
    : "begin an answer as its prompt ends: it does not begin that";
  return new DataError(
    `Cannot find the answers of a conversation as the chat template of "${template.path}" must ${rule} of message ${
      at + 1
    }; mark answers with {% generation %} in a template of your own, or learn all`,
  );
}
