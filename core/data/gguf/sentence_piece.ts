/**
 * SentencePiece tokenizers of GGUF files (`tokenizer.ggml.model` is `llama`): pieces with scores instead of merges. The pair
 * whose piece has the highest score is merged first, so that scores give an order of merges.
 *
 * Source: `llm_tokenizer_spm` of llama.cpp; `SentencePieceExtractor` of transformers gives the same merges.
 *
 * @module
 */

import { type Fields, fieldsOf } from "../tokenizer/fields.ts";
import { TOKEN, type TokenizerParts, type Tokens } from "./token_types.ts";

const SCORES = "tokenizer.ggml.scores";

/** Characters of a piece, and of all pieces: each place of each piece may be where two others meet. */
const LONGEST = 256, MOST_PLACES = 2 ** 24;

const SPACE = "\u2581";

/**
 * Makes the parts of `tokenizer.json` of a SentencePiece tokenizer.
 *
 * @param fields The metadata
 * @param tokens The tokens
 * @returns The parts
 * @throws {DataError} When a score is missing, or pieces are too long
 */
export function sentencePieceParts(fields: Fields, tokens: Tokens): TokenizerParts {
  const { texts, types } = tokens, prefix = fields.flag("tokenizer.ggml.add_space_prefix", true);
  if (fields.flag("tokenizer.ggml.remove_extra_whitespaces", false)) {
    throw fields.error("tokenizer.ggml.remove_extra_whitespaces", "false", true);
  }
  const vocab = new Map(texts.map((text, id) => [text, id]));
  if (vocab.size < texts.length) {
    const twice = texts.find((text, id) => vocab.get(text) !== id);
    throw fields.error("tokenizer.ggml.tokens", "a list of texts that differ", twice);
  }
  const unknown =
    texts[fields.whole("tokenizer.ggml.unknown_token_id", { most: texts.length - 1, fallback: 0 })];
  const replace = (from: string, to: string) => ({ type: "Replace", pattern: { String: from }, content: to });
  return {
    normalizer: {
      type: "Sequence",
      normalizers: [...prefix ? [{ type: "Prepend", prepend: SPACE }] : [], replace(" ", SPACE)],
    },
    preTokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        replace(SPACE, " "),
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...prefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : [],
      ],
    },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: unknown,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: types.includes(TOKEN.byte),
      ignore_merges: false,
      vocab: Object.fromEntries(vocab),
      merges: mergesOf(fields, tokens, vocab),
    },
    addBos: true,
  };
}

/** Pairs of pieces that make another one, the highest score first. */
function mergesOf(
  fields: Fields,
  { texts, types }: Tokens,
  vocab: ReadonlyMap<string, number>,
): readonly (readonly [string, string])[] {
  const scores = fields.list(SCORES, texts.length),
    merges: { left: string; right: string; score: number }[] = [];
  if (scores.length !== texts.length) {
    throw fields.error(SCORES, `a list of ${texts.length}, as there are tokens`, scores);
  }
  const bad = scores.find((score) => typeof score !== "number" || Number.isNaN(score));
  if (bad !== undefined) throw fields.error(SCORES, "a list of numbers", bad);
  const places = texts.reduce((sum, { length }) => sum + length, 0);
  if (places > MOST_PLACES) {
    throw fields.error("tokenizer.ggml.tokens", `at most ${MOST_PLACES} characters`, places);
  }
  texts.forEach((text, id) => {
    if (types[id] !== TOKEN.normal && types[id] !== TOKEN.userDefined) return;
    if (text.length > LONGEST) {
      throw fields.error("tokenizer.ggml.tokens", `texts of at most ${LONGEST} characters`, text);
    }
    const pairs: [string, string][] = [];
    for (let at = 1; at < text.length; at++) {
      const [left, right] = [text.slice(0, at), text.slice(at)];
      if (vocab.has(left) && vocab.has(right)) pairs.push([left, right]);
    }
    pairs.sort(([a, b], [c, d]) => vocab.get(a)! - vocab.get(c)! || vocab.get(b)! - vocab.get(d)!);
    for (const [left, right] of pairs) merges.push({ left, right, score: scores[id] as number });
  });
  return merges.sort((a, b) => b.score - a.score).map(({ left, right }) => [left, right] as const);
}

/** Whether a `tokenizer.json` holds pieces of SentencePiece: merges over texts whose spaces are U+2581. */
export function isSentencePiece({ normalizer, pre_tokenizer }: Readonly<Record<string, unknown>>): boolean {
  return JSON.stringify([normalizer, pre_tokenizer]).includes(SPACE);
}

/**
 * Scores that give the merges of a `tokenizer.json`.
 *
 * @param fields The file
 * @param tokens Its tokens
 * @returns Scores by id: the earlier a piece is merged, the higher
 * @throws {DataError} When no scores give its merges
 */
export function sentencePieceScores(fields: Fields, { texts, types }: Tokens): readonly number[] {
  const model = fields.object("model")!;
  const merges = model.list("merges", 2 ** 22).map((merge) =>
    typeof merge === "string" ? merge.split(" ") : merge as string[]
  );
  const ranks = new Map<string, number>();
  merges.forEach(([left, right], rank) => {
    if (!ranks.has(left + right)) ranks.set(left + right, rank);
  });
  const scores = texts.map((text, id) =>
    types[id] === TOKEN.normal ? -(ranks.get(text) ?? merges.length + id) : 0
  );
  const metadata = { [SCORES]: scores };
  const made = mergesOf(
    fieldsOf(metadata, { path: "tokenizer.json" }),
    { texts, types },
    new Map(texts.map((text, id) => [text, id])),
  );
  const own = new Set(merges.map(([left, right]) => `${left} ${right}`));
  const same = made.length === merges.length &&
    made.every(([left, right], i) => own.has(`${left} ${right}`) && left + right === merges[i].join(""));
  if (!same) {
    throw fields.error("model.merges", "the merges of SentencePiece, which follow from scores", merges);
  }
  return scores;
}
