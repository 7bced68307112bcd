/**
 * Templates of chats: from messages to the text that a model sees.
 *
 * @module
 */

import { Environment, parse, tokenize } from "@huggingface/jinja";
import { DataError, FirnError, InputError } from "../../errors.ts";
import { fingerprint, wordsOf } from "../../fingerprint.ts";
import type { Conversation, Message } from "../rows/conversation.ts";
import { LimitedInterpreter } from "./interpreter.ts";
import { dateText, textOf, type Value } from "./python_text.ts";

/** A conversation as text. */
export interface RenderedChat {
  /** The text. */
  readonly text: string;
  /** Where the template says that an answer stands, with `{% generation %}`: begin and end, in UTF-16 code units. */
  readonly answers: readonly (readonly [begin: number, end: number])[];
}

/** How a conversation is rendered. */
export interface RenderOptions {
  /** Whether the beginning of an answer follows the last message; false when absent. */
  readonly addGenerationPrompt?: boolean;
}

/** A template of chats. */
export interface ChatTemplate {
  /** Where it was read, for errors. */
  readonly path: string;
  /** Whether it marks answers. */
  readonly marksAnswers: boolean;
  /** Fingerprint of the template and of what it is told. */
  readonly fingerprint: string;
  /**
   * Renders a conversation.
   *
   * @throws {DataError} When the template refuses it, is broken, or takes more than its limits
   */
  render(conversation: Conversation, options?: RenderOptions): RenderedChat;
}

/** Options of {@link chatTemplate}. */
export interface ChatTemplateOptions {
  /** Where it was read, for errors; `chat template` when absent. */
  readonly path?: string;
  /** Texts of special tokens by name, such as `bos_token`; none when absent. */
  readonly tokens?: Readonly<Record<string, string>>;
  /** Other variables, such as `enable_thinking`; none when absent. */
  readonly variables?: Readonly<Record<string, unknown>>;
  /** The date that `strftime_now` tells; that of the call when absent. */
  readonly now?: Date;
}

/** Characters of a template: several times the longest in use. And white space in a row, on which its reader is slow. */
const MOST_TEMPLATE = 2 ** 18, MOST_SPACE = 2000;

/** Steps of a rendering, and characters of a text besides those of the conversation. */
const MOST_STEPS = 200_000, MOST_CHARACTERS = 2 ** 21;

/** What stands where an answer begins and ends. Unicode keeps both free, so that no text has them. */
const BEGIN = "\ufdd0", END = "\ufdd1";

/** The library's class of texts, which it does not export. */
const Text = new Environment().set("text", "").constructor as new (text: string) => Value;

const MARK = /\{%(-?)\s*(end)?generation\s*(-?)%\}/g;

/**
 * Makes a template of its source, as `transformers` does with Jinja: lines of tags leave no trace, `break` and `continue` work,
 * and there are `raise_exception`, `strftime_now` and `tojson` with the options of Python. A template is a program of a
 * stranger: it has access to nothing but the conversation, and may take so many steps and characters.
 *
 * @param source The source; or sources by name, of which `tool_use` serves conversations with tools and `default` all others
 * @param options Special tokens, the date
 * @returns The template
 * @throws {DataError} When it cannot be read
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { chatTemplate } from "@firn/train/data";
 *
 * const template = chatTemplate(
 *   "{% for m in messages %}<{{ m.role }}>{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
 * );
 * const { text, answers } = template.render({ messages: [{ role: "assistant", content: "Hi" }] });
 * assertEquals([text, answers], ["<assistant>Hi", [[11, 13]]]);
 * ```
 */
export function chatTemplate(
  source: string | ReadonlyMap<string, string>,
  { path = "chat template", tokens = {}, variables = {}, now = new Date() }: ChatTemplateOptions = {},
): ChatTemplate {
  const sources = typeof source === "string" ? new Map([["default", source]]) : source;
  const programs = new Map(
    [...sources].map(([name, text]) => [name, { text, program: programOf(text, path) }]),
  );
  const choose = (tools: boolean) => {
    const found = (tools ? programs.get("tool_use") : undefined) ?? programs.get("default");
    if (found !== undefined) return found;
    throw new InputError(
      `Cannot use the chat template of "${path}" as one must be called "default": there are ${
        [...programs.keys()].join(", ")
      }; name a file with one`,
    );
  };
  choose(false);
  return {
    path,
    marksAnswers: [...sources.values()].some((text) => text.match(MARK) !== null),
    fingerprint: fingerprint([
      wordsOf(JSON.stringify([[...sources], tokens, variables, dateText(now, "%F")])),
    ]),
    render(conversation, { addGenerationPrompt = false } = {}) {
      const { program } = choose(conversation.tools !== undefined);
      const given = {
        ...tokens,
        ...variables,
        messages: conversation.messages.map(plainMessage),
        tools: conversation.tools ?? null,
        documents: null,
        add_generation_prompt: addGenerationPrompt,
      };
      return withoutMarks(run(program, given, { path, now }), path);
    },
  };
}

/** Reads a template. The library leaves marks of answers out, so that they become text before it reads them. */
function programOf(source: string, path: string): unknown {
  const fail = (rule: string, cause?: unknown) =>
    new DataError(`Cannot use the chat template of "${path}" as ${rule}; get the file again`, { cause });
  if (source.length > MOST_TEMPLATE) {
    throw fail(`it may have ${MOST_TEMPLATE} characters: it has ${source.length}`);
  }
  if (new RegExp(`\\s{${MOST_SPACE}}`).test(source)) {
    throw fail(`it may have ${MOST_SPACE - 1} spaces in a row`);
  }
  const marked = source.replace(MARK, (_, left: string, end: string | undefined, right: string) => {
    return `{%${left} if true %}{{ "${end === undefined ? BEGIN : END}" }}{% endif ${right}%}`;
  });
  try {
    return parse(tokenize(marked, { lstrip_blocks: true, trim_blocks: true }));
  } catch (error) {
    throw fail(`it must be a template of Jinja: ${(error as Error).message}`, error);
  }
}

/** A message as `transformers` hands it on: nothing that is null, and reasoning by the names that templates know. */
function plainMessage(message: Message): Record<string, unknown> {
  const given = Object.fromEntries(Object.entries(message).filter(([, value]) => value !== null));
  const reasoning = given.reasoning_content ?? given.thinking ?? given.reasoning;
  return reasoning === undefined ? given : { thinking: reasoning, ...given, reasoning_content: reasoning };
}

/** Variables that every template has. The library's own `range` has no limit, and its dates are of some tongue. */
function globals(environment: Environment, now: Date): void {
  for (const [name, value] of [["true", true], ["false", false], ["none", null]] as const) {
    environment.set(name, value);
    environment.set(name[0].toUpperCase() + name.slice(1), value);
  }
  environment.set("raise_exception", (message: unknown) => {
    throw new DataError(`it refuses the conversation: ${String(message)}`);
  });
  environment.set("strftime_now", (format: unknown) => dateText(now, String(format)));
  environment.set("range", limitedRange);
  environment.set("dict", (entries: unknown = {}) => entries);
}

function limitedRange(first: number, second?: number, step = 1): number[] {
  const [begin, end] = second === undefined || typeof second !== "number" ? [0, first] : [first, second];
  const length = Math.max(0, Math.ceil((end - begin) / step));
  if (!(length <= MOST_STEPS)) {
    throw new DataError(`a range may have ${MOST_STEPS} numbers: it has ${length}`);
  }
  return Array.from({ length }, (_, i) => begin + i * step);
}

function run(
  program: unknown,
  given: Readonly<Record<string, unknown>>,
  { path, now }: { readonly path: string; readonly now: Date },
): string {
  const environment = new Environment();
  try {
    globals(environment, now);
    for (const [name, value] of Object.entries(given)) environment.set(name, value);
    const size = JSON.stringify(given).length;
    const limits = { steps: MOST_STEPS + 32 * size, characters: MOST_CHARACTERS + 16 * size };
    return textOf(
      new LimitedInterpreter(environment, { limits, make: (text) => new Text(text) }).run(program),
    );
  } catch (error) {
    // What a template of a stranger makes the library throw is about the template.
    const rule = error instanceof FirnError ? error.message : `it must run: ${(error as Error).message}`;
    throw new DataError(`Cannot use the chat template of "${path}" as ${rule}`, { cause: error });
  }
}

/** The text without the marks of answers. */
function withoutMarks(marked: string, path: string): RenderedChat {
  let text = "", begin: number | null = null;
  const answers: (readonly [number, number])[] = [];
  for (const part of marked.split(/([\ufdd0\ufdd1])/)) {
    if (part === BEGIN && begin === null) begin = text.length;
    else if (part === END && begin !== null) {
      answers.push([begin, text.length]);
      begin = null;
    } else if (part === BEGIN || part === END) {
      throw new DataError(
        `Cannot use the chat template of "${path}" as each answer must begin and end once: one does not`,
      );
    } else text += part;
  }
  if (begin !== null) {
    throw new DataError(`Cannot use the chat template of "${path}" as each answer must end: one does not`);
  }
  return { text, answers };
}
