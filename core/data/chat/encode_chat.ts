/**
 * Conversations as samples: which tokens are answers.
 *
 * @module
 */

import type { ChatExample } from "../rows/example.ts";
import { commonLength, type Learned, type Sample } from "../samples/sample.ts";
import type { Tokenizer } from "../tokenizer/load_tokenizer.ts";
import { answersOf } from "./answers.ts";
import type { ChatTemplate } from "./chat_template.ts";

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
