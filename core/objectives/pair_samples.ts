/**
 * Pairs of answers as token ids.
 *
 * @module
 */

import type { ChatTemplate } from "../data/chat/chat_template.ts";
import { encodeChat } from "../data/chat/encode_chat.ts";
import type { Message } from "../data/rows/conversation.ts";
import type { FeedbackExample, PreferenceExample } from "../data/rows/example.ts";
import { RowError } from "../data/rows/row.ts";
import type { Rows } from "../data/rows/open_rows.ts";
import { fitSamples, type Long } from "../data/samples/fit.ts";
import { encodeExample, type Sample } from "../data/samples/sample.ts";
import { ruleOf } from "../data/samples/sample_source.ts";
import type { Tokenizer } from "../data/tokenizer/load_tokenizer.ts";
import { FirnError, InputError } from "../errors.ts";

/** Two texts with their answers, and what is known of them. */
export interface SamplePair {
  /** The better answer after its prompt; for KTO an answer that is good or not. */
  readonly first: Sample;
  /** The other answer; for KTO an answer that belongs to another prompt. */
  readonly second: Sample;
  /** For KTO: whether the first answer is good. */
  readonly desirable?: boolean;
  /** For a reward head: how far apart rewards should be. */
  readonly margin?: number;
  /** Log-probabilities of both answers under the reference. */
  readonly reference?: readonly [first: number, second: number];
}

/** How answers are encoded. */
export interface EncodePairOptions {
  /** The template of conversations; without one, prompts and answers are texts that follow each other. */
  readonly template?: ChatTemplate | null;
}

/** Options of {@link pairSamples}. */
export interface PairSamplesOptions extends EncodePairOptions {
  /** The tokenizer. */
  readonly tokenizer: Tokenizer;
  /** Most tokens of a prompt with its answer. */
  readonly length: number;
  /** What becomes of longer ones; their end is cut off when absent. `split` is none for pairs. */
  readonly long?: Exclude<Long, "split">;
  /** How many rows may be left out of which no tokens can be made; 0 when absent. */
  readonly skipBadRows?: number;
}

/**
 * Encodes two answers to a prompt. Messages with which both begin are the prompt, where there is none.
 *
 * @param tokenizer The tokenizer
 * @param example The answers
 * @param options The template
 * @returns Both, of which the answers are learned
 * @throws {DataError} When the template refuses a conversation
 * @throws {InputError} When a conversation of several messages has no template
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { loadTokenizer } from "@firn/train/data";
 * import { encodePreference } from "@firn/train/objectives";
 *
 * const tokenizer = await loadTokenizer("examples/models/sotu");
 * const say = (role: string, content: string) => [{ role, content }];
 * const { first, second } = encodePreference(tokenizer, {
 *   kind: "preference", prompt: say("user", "The state of"), chosen: say("assistant", " the union"), rejected: say("assistant", " war"),
 * });
 * const learned = ({ ids, learned }: typeof first) => tokenizer.decode(ids.filter((_, i) => learned[i] === 1));
 * assertEquals([learned(first), learned(second)], [" the union", " war"]);
 * ```
 */
export function encodePreference(
  tokenizer: Tokenizer,
  { prompt, chosen, rejected, margin }: PreferenceExample,
  options: EncodePairOptions = {},
): SamplePair {
  const shared = prompt.length > 0 ? 0 : sharedMessages(chosen, rejected);
  const before = prompt.length > 0 ? prompt : chosen.slice(0, shared);
  const encode = (answer: readonly Message[]): Sample =>
    encodeAnswer(tokenizer, { prompt: before, answer: answer.slice(shared) }, options);
  return { first: encode(chosen), second: encode(rejected), ...margin !== undefined && { margin } };
}

/** How many messages both begin with alike; the last of each is an answer. */
function sharedMessages(a: readonly Message[], b: readonly Message[]): number {
  const most = Math.min(a.length, b.length) - 1;
  let count = 0;
  while (count < most && a[count].role === b[count].role && a[count].content === b[count].content) count++;
  return count;
}

function encodeAnswer(
  tokenizer: Tokenizer,
  { prompt, answer }: { readonly prompt: readonly Message[]; readonly answer: readonly Message[] },
  { template = null }: EncodePairOptions,
): Sample {
  if (template !== null) {
    const example = { kind: "chat", messages: [...prompt, ...answer], answersFrom: prompt.length } as const;
    return encodeChat(tokenizer, example, { template });
  }
  if (prompt.length > 1 || answer.length !== 1) {
    throw new InputError(
      "Cannot encode a conversation as there must be a chat template: the model has none; name a file with one",
    );
  }
  const [before] = prompt, [{ content }] = answer;
  return encodeExample(tokenizer, {
    kind: "completion",
    prompt: before?.content ?? "",
    completion: content ?? "",
  });
}

/** Samples that fit a row; null where one is left without an answer. */
function fitted(
  samples: readonly Sample[],
  { length, long = "cutEnd" }: PairSamplesOptions,
): Sample[] | null {
  const fit = samples.flatMap((sample) => fitSamples([sample], { length, long }));
  return fit.length === samples.length ? fit : null;
}

/** Pairs, and how many rows gave none. */
export interface PairSamples {
  /** The pairs, in the order of the rows. */
  readonly pairs: readonly SamplePair[];
  /** Rows of which an answer does not fit. */
  readonly cut: number;
  /** Rows of which no tokens can be made, as `skipBadRows` allows. */
  readonly unusable: number;
}

/**
 * Encodes rows of preferences, as pairs. All of them are in memory.
 *
 * @param rows The rows
 * @param options Tokenizer, template, sizes
 * @returns The pairs
 * @throws {RowError} When no tokens can be made of a row; it names the row
 */
export async function pairSamples(
  rows: Rows<"preference">,
  options: PairSamplesOptions,
): Promise<PairSamples> {
  return await collect(rows, options, (example) => {
    const { first, second, ...more } = encodePreference(options.tokenizer, example, options);
    const fit = fitted([first, second], options);
    return fit === null ? [] : [{ first: fit[0], second: fit[1], ...more }];
  });
}

/**
 * Encodes rows of answers that are good or not, for KTO: each with one that belongs to another prompt. Of a preference, both
 * answers are taken. All of them are in memory.
 *
 * @param rows The rows
 * @param options Tokenizer, template, sizes
 * @returns The answers, each with another one
 * @throws {RowError} When no tokens can be made of a row; it names the row
 * @throws {InputError} When all have one prompt
 */
export async function feedbackSamples(
  rows: Rows<"preference"> | Rows<"feedback">,
  options: PairSamplesOptions & {
    /** Further pairs whose answers may be taken, as for the few rows that are held out; none when absent. */
    readonly others?: readonly SamplePair[];
  },
): Promise<PairSamples> {
  const { tokenizer, others = [] } = options;
  const one = (sample: Sample, desirable: boolean): SamplePair[] => {
    const fit = fitted([sample], options);
    return fit === null ? [] : [{ first: fit[0], second: fit[0], desirable }];
  };
  const { pairs, ...counts } = await collect<PreferenceExample | FeedbackExample>(
    rows,
    options,
    (example) => {
      if (example.kind === "feedback") {
        return one(
          encodeAnswer(tokenizer, { prompt: example.prompt, answer: example.completion }, options),
          example.good,
        );
      }
      const { first, second } = encodePreference(tokenizer, example, options);
      return [...one(first, true), ...one(second, false)];
    },
  );
  return { pairs: withMismatched(pairs, { length: options.length, others }), ...counts };
}

/** Gives each answer that of the nearest row before it with another prompt. */
function withMismatched(
  own: readonly SamplePair[],
  { length, others }: { readonly length: number; readonly others: readonly SamplePair[] },
): SamplePair[] {
  const pairs = [...others, ...own],
    before = others.length,
    borders = pairs.map(({ first: { learned } }) => Math.max(1, learned.indexOf(1)));
  const prompts = pairs.map(({ first: { ids } }, i) => ids.subarray(0, borders[i]).join());
  return own.map((pair, place) => {
    const i = before + place;
    let other = -1;
    for (let back = 1; back < pairs.length && other < 0; back++) {
      const at = (i - back + pairs.length) % pairs.length;
      if (prompts[at] !== prompts[i]) other = at;
    }
    if (other < 0) {
      throw new InputError(
        "Cannot find a reference point for KTO as there must be answers to several prompts: all have one; give more rows",
      );
    }
    const { ids, learned } = pairs[other].first, prompt = pair.first.ids.subarray(0, borders[i]);
    const joined = [...prompt, ...ids.subarray(borders[other])].slice(0, length);
    const asked = [...new Uint8Array(prompt.length), ...learned.subarray(borders[other])].slice(0, length);
    return { ...pair, second: { ids: Int32Array.from(joined), learned: Uint8Array.from(asked) } };
  });
}

async function collect<E extends PreferenceExample | FeedbackExample>(
  rows: Pick<Rows<E["kind"]>, "blocks" | "skipped"> & {
    read(block: number): Promise<readonly { readonly example: E; readonly file: string }[]>;
  },
  { skipBadRows = 0 }: PairSamplesOptions,
  encode: (example: E) => readonly SamplePair[],
): Promise<PairSamples> {
  const pairs: SamplePair[] = [];
  let cut = 0, unusable = 0;
  for (const block of rows.blocks.keys()) {
    for (const { example, ...place } of await rows.read(block)) {
      try {
        const made = encode(example);
        if (made.length === 0) cut++;
        pairs.push(...made);
      } catch (error) {
        if (!(error instanceof FirnError)) throw error;
        if (rows.skipped + ++unusable > skipBadRows) {
          throw new RowError(place as ConstructorParameters<typeof RowError>[0], ruleOf(error), {
            cause: error,
          });
        }
      }
    }
  }
  return { pairs, cut, unusable };
}
