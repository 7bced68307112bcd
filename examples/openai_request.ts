/**
 * Requests in the form of OpenAI's chat and completion routes.
 *
 * @module
 */

import { InputError } from "@firn/train";
import type { Sampling } from "@firn/train/infer";
import { type ChatTemplate, encodePrompt, messagesOf, type Tokenizer } from "@firn/train/data";

/** What a request asks for. */
export interface Asked {
  /** Ids of each prompt. */
  readonly prompts: readonly (readonly number[])[];
  /** How tokens are chosen. */
  readonly sampling: Sampling;
  /** Most tokens to add; what there is room for when undefined. */
  readonly maxTokens: number | undefined;
  /** Texts that end an answer. */
  readonly stop: readonly string[];
  /** Answers to each prompt. */
  readonly n: number;
  /** Whether the text is sent as it comes. */
  readonly stream: boolean;
  /** Whether the last piece of a stream counts tokens. */
  readonly usage: boolean;
}

/** A request that cannot be answered. */
export class RequestError extends InputError {
  override name = "RequestError";
  /** Status of HTTP. */
  readonly status: number;
  /** The field that is wrong; null for none. */
  readonly param: string | null;
  /** OpenAI's code; null for none. */
  readonly code: string | null;

  /** Names what is wrong. */
  constructor(
    message: string,
    { status = 400, param = null, code = null }: {
      readonly status?: number;
      readonly param?: string | null;
      readonly code?: string | null;
    } = {},
  ) {
    super(message);
    [this.status, this.param, this.code] = [status, param, code];
  }
}

type Body = Readonly<Record<string, unknown>>;

/** Most answers, and texts that end one: limits of OpenAI, or above them. */
const MOST_ANSWERS = 16, MOST_STOPS = 16, MOST_PROMPTS = 2048;

/** Fields that change what is answered in ways that are not known here, and their neutral values. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  echo: [false, null],
  suffix: [null, ""],
  best_of: [1, null],
  tool_choice: ["auto", "none", null],
};

/** Most likely tokens that are told of: those of OpenAI's chat route, and of its older one. */
const MOST_TOLD = 20, MOST_TOLD_BEFORE = 5;

/** Fields of numbers, by the name that sampling has for them. */
const NUMBERS: Readonly<Record<string, keyof Sampling>> = {
  temperature: "temperature",
  top_p: "topP",
  top_k: "topK",
  min_p: "minP",
  typical_p: "typicalP",
  repetition_penalty: "repetitionPenalty",
  presence_penalty: "presencePenalty",
  frequency_penalty: "frequencyPenalty",
  no_repeat_ngram_size: "noRepeatNgram",
  seed: "seed",
};

/**
 * Reads a request.
 *
 * @param body The body, parsed
 * @param options Tokenizer, and the template of chats; without one, for the completion route
 * @returns What it asks for
 * @throws {RequestError} When a field is missing or of the wrong kind
 */
export function readRequest(
  body: unknown,
  { tokenizer, template }: { readonly tokenizer: Tokenizer; readonly template?: ChatTemplate | null },
): Asked {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new RequestError("the body must be a JSON object");
  }
  const fields = body as Body;
  for (const [name, neutral] of Object.entries(NEUTRAL)) {
    if (fields[name] === undefined || neutral.includes(fields[name])) continue;
    throw new RequestError(`"${name}" is not supported`, { param: name, code: "unsupported_parameter" });
  }
  const format = (fields.response_format as Body | null | undefined)?.type ?? "text";
  if (format !== "text") {
    throw new RequestError('"response_format" must be of type text', {
      param: "response_format",
      code: "unsupported_parameter",
    });
  }
  const prompts = template === undefined
    ? promptsOf(fields.prompt, tokenizer)
    : [chatOf(fields, { tokenizer, template })];
  const stream = fields.stream ?? false;
  if (typeof stream !== "boolean") {
    throw new RequestError('"stream" must be true or false', { param: "stream" });
  }
  const n = whole(fields, "n") ?? 1;
  if (n > MOST_ANSWERS) {
    throw new RequestError(`"n" must be at most ${MOST_ANSWERS}: got ${n}`, { param: "n" });
  }
  return {
    prompts,
    sampling: { ...samplingOf(fields), logProbs: toldOf(fields, template !== undefined) },
    maxTokens: whole(fields, "max_completion_tokens") ?? whole(fields, "max_tokens"),
    stop: stopsOf(fields.stop),
    n,
    stream,
    usage: stream && (fields.stream_options as Body | null | undefined)?.include_usage === true,
  };
}

function chatOf(
  { messages, tools, tool_choice: choice }: Body,
  { tokenizer, template }: { readonly tokenizer: Tokenizer; readonly template: ChatTemplate | null },
): readonly number[] {
  if (template === null) {
    throw new RequestError("the model has no chat template: use /v1/completions", {
      code: "model_not_supported",
    });
  }
  try {
    const read = messagesOf(flattened(messages));
    const shown = Array.isArray(tools) && choice !== "none" ? tools : [];
    const conversation = { messages: read, ...shown.length > 0 && { tools: shown } };
    return tokenizer.encode(template.render(conversation, { addGenerationPrompt: true }).text);
  } catch (error) {
    throw new RequestError((error as Error).message, { param: "messages" });
  }
}

/**
 * An option of sampling that was refused, as a field of a request.
 *
 * @param error What was said of the option
 * @returns The same of the field
 */
export function refusedField({ message }: InputError): RequestError {
  const fields = [...Object.entries(NUMBERS), ["logit_bias", "logitBias"]];
  const found = fields.find(([, name]) => message.includes(`"${name}"`));
  if (found === undefined) return new RequestError(message);
  const [field, name] = found;
  return new RequestError(message.replace(`"${name}"`, `"${field}"`), { param: field });
}

/** Messages whose content is a list of parts of text, as one text. */
function flattened(messages: unknown): unknown {
  if (!Array.isArray(messages)) return messages;
  return messages.map((message) => {
    const content: unknown = message?.content;
    if (!Array.isArray(content)) return message;
    const other = content.find((part) => part?.type !== "text");
    if (other !== undefined) throw new RequestError(`content of type "${other?.type}" is not supported`);
    return { ...message, content: content.map(({ text }) => text).join("") };
  });
}

function promptsOf(prompt: unknown, tokenizer: Tokenizer): readonly (readonly number[])[] {
  const isIds = (value: unknown): value is number[] =>
    Array.isArray(value) && value.length > 0 && value.every((id) => Number.isSafeInteger(id));
  const list = typeof prompt === "string" || isIds(prompt) ? [prompt] : prompt;
  if (!Array.isArray(list) || list.length === 0) {
    throw new RequestError('"prompt" must be a text, a list of texts, or ids of tokens', { param: "prompt" });
  }
  if (list.length > MOST_PROMPTS) {
    throw new RequestError(`"prompt" must have ${MOST_PROMPTS} texts at most`, { param: "prompt" });
  }
  return list.map((one) => {
    if (isIds(one)) return one;
    if (typeof one !== "string") {
      throw new RequestError('"prompt" must be a text or ids of tokens', { param: "prompt" });
    }
    const ids = encodePrompt(tokenizer, one);
    if (ids.length === 0) throw new RequestError('"prompt" must not be empty', { param: "prompt" });
    return ids;
  });
}

function samplingOf(fields: Body): Sampling {
  // What OpenAI draws with when nothing is said.
  const sampling: Record<string, unknown> = { temperature: 1 };
  for (const [field, name] of Object.entries(NUMBERS)) {
    const value = fields[field] ?? null;
    if (value === null) continue;
    if (typeof value !== "number") throw new RequestError(`"${field}" must be a number`, { param: field });
    // In other servers, a top_k below 1 takes all.
    if (field === "top_k" && value < 1) continue;
    sampling[name] = value;
  }
  // Without a seed, answers differ.
  sampling.seed ??= crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
  const bias = fields.logit_bias ?? null;
  if (bias === null) return sampling;
  if (typeof bias !== "object") {
    throw new RequestError('"logit_bias" must be an object', { param: "logit_bias" });
  }
  return { ...sampling, logitBias: bias as Record<number, number> };
}

/** How many of the likeliest tokens are told; undefined for nothing. */
function toldOf({ logprobs, top_logprobs: top }: Body, chat: boolean): number | undefined {
  const fail = (param: string, rule: string): never => {
    throw new RequestError(`"${param}" must be ${rule}`, { param });
  };
  const count = (param: string, value: unknown, most: number): number =>
    Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most
      ? value as number
      : fail(param, `a whole number from 0 to ${most}`);
  if (!chat) {
    return (logprobs ?? false) === false ? undefined : count("logprobs", logprobs, MOST_TOLD_BEFORE);
  }
  if (typeof (logprobs ?? false) !== "boolean") fail("logprobs", "true or false");
  const wanted = count("top_logprobs", top ?? 0, MOST_TOLD);
  if (logprobs !== true && wanted > 0) fail("logprobs", 'true where "top_logprobs" is above 0');
  return logprobs === true ? wanted : undefined;
}

function stopsOf(stop: unknown): readonly string[] {
  const list = stop === undefined || stop === null ? [] : [stop].flat();
  if (list.length <= MOST_STOPS && list.every((text) => typeof text === "string")) return list as string[];
  throw new RequestError(`"stop" must be a text, or a list of up to ${MOST_STOPS}`, { param: "stop" });
}

function whole(fields: Body, name: string): number | undefined {
  const value = fields[name] ?? null;
  if (value === null) return undefined;
  if (Number.isSafeInteger(value) && (value as number) >= 1) return value as number;
  throw new RequestError(`"${name}" must be a whole number above 0`, { param: name });
}
