/**
 * Passages of a text, as vectors of a model and as counts of words, and how well either finds a passage.
 *
 * @module
 */

import { type Gpu, type Model, tensor, type TokenInput } from "@firn/train";
import { compile } from "@firn/train/infer";
import { sentenceEmbeddings } from "@firn/train/models";
import { type Corpus, encodePrompt, type Tokenizer } from "@firn/train/data";

/** Rows of numbers, each of length 1 or 0. */
export type Vectors = readonly Float32Array[];

/**
 * Cuts documents into passages of so many words, and takes pairs of neighbours from all over the text.
 *
 * @param corpus The text
 * @param options Words of a passage, and how many passages to take at most
 * @returns Passages; those at 2 k and 2 k + 1 are neighbours
 */
export async function passagesOf(
  corpus: Corpus,
  { words, most }: { readonly words: number; readonly most: number },
): Promise<readonly string[]> {
  const pairs: (readonly [string, string])[] = [];
  let rest: string[] = [];
  for await (const { text, ends } of corpus.pieces()) {
    rest.push(...text.split(/\s+/).filter((word) => word !== ""));
    while (rest.length >= 2 * words) {
      const [a, b] = [rest.splice(0, words), rest.splice(0, words)];
      pairs.push([a.join(" "), b.join(" ")]);
    }
    if (ends) rest = [];
  }
  const count = Math.min(pairs.length, Math.floor(most / 2));
  return Array.from({ length: count }, (_, i) => pairs[Math.floor(i * pairs.length / count)]).flat();
}

/**
 * Cuts documents into passages of so many words at most, and takes some from all over the text.
 *
 * @param corpus The text
 * @param options Words of a passage, and how many passages to take at most
 * @returns Passages, in order; none has words of two documents, and the last of a document may be short
 */
export async function cutPassages(
  corpus: Corpus,
  { words, most }: { readonly words: number; readonly most: number },
): Promise<readonly string[]> {
  const passages: string[] = [];
  const rest: string[] = [];
  for await (const { text, ends } of corpus.pieces()) {
    rest.push(...text.split(/\s+/).filter((word) => word !== ""));
    while (rest.length >= words || ends && rest.length > 0) passages.push(rest.splice(0, words).join(" "));
  }
  const count = Math.min(passages.length, most);
  return Array.from({ length: count }, (_, i) => passages[Math.floor(i * passages.length / count)]);
}

/** Divides a row by its length. */
function normalized(row: Float32Array): Float32Array {
  const length = Math.hypot(...row);
  return length === 0 ? row : row.map((x) => x / length);
}

/** The cosine of two rows of length 1. */
export function cosine(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, x, i) => sum + x * b[i], 0);
}

/**
 * The mean hidden state of each text.
 *
 * @param gpu The device
 * @param model The model
 * @param options Texts, the tokenizer, texts in a batch; `onBatch` is told of each that is done
 * @returns A row for each text
 */
export async function embed(
  gpu: Gpu,
  model: Model,
  { texts, tokenizer, batch: largest, onBatch }: {
    readonly texts: readonly string[];
    readonly tokenizer: Tokenizer;
    readonly batch: number;
    readonly onBatch?: (done: number) => void;
  },
): Promise<Float32Array[]> {
  const most = Math.min(model.maxLength, 512), rows: Float32Array[] = [];
  const batch = Math.min(largest, texts.length);
  const all = texts.map((text) => encodePrompt(tokenizer, text).slice(0, most));
  const length = Math.max(...all.map((ids) => ids.length));
  using vectors = compile(gpu, (input: TokenInput) => sentenceEmbeddings(model, input));
  for (let from = 0; from < all.length; from += batch) {
    const ids = new Int32Array(batch * length), mask = new Int32Array(batch * length);
    for (let r = 0; r < batch; r++) {
      // Rows that fill a batch up repeat its first text.
      const row = all[from + r] ?? all[from];
      ids.set(row, r * length);
      mask.fill(1, r * length, r * length + row.length);
    }
    const shape = [batch, length];
    const values = await vectors({
      inputIds: tensor(ids, shape),
      attentionMask: tensor(mask, shape),
    }) as Float32Array;
    const width = values.length / batch;
    for (let r = 0; r < batch && from + r < all.length; r++) {
      rows.push(values.slice(r * width, (r + 1) * width));
    }
    onBatch?.(rows.length);
  }
  return rows;
}

/**
 * Takes what all rows have in common from each of them, and divides by its length.
 *
 * Source: Mu and Viswanath, "All-but-the-top", arXiv 1702.01417, first step.
 *
 * @param rows The rows
 * @param common Rows whose mean is taken away
 * @returns New rows
 */
export function centred(rows: readonly Float32Array[], common: readonly Float32Array[]): Vectors {
  const mean = new Float32Array(common[0].length);
  for (const row of common) row.forEach((x, i) => mean[i] += x / common.length);
  return rows.map((row) => normalized(row.map((x, i) => x - mean[i])));
}

/** The words of a text. */
function wordsOf(text: string): readonly string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}']+/gu) ?? [];
}

/**
 * Counts of words.
 *
 * @param texts The texts
 * @param known Texts whose words count
 * @returns A row for each text
 */
export function countWords(texts: readonly string[], known: readonly string[]): Vectors {
  const places = new Map([...new Set(known.flatMap(wordsOf))].map((word, i) => [word, i]));
  return texts.map((text) => {
    const row = new Float32Array(places.size);
    for (const word of wordsOf(text)) if (places.has(word)) row[places.get(word)!]++;
    return normalized(row);
  });
}

/**
 * How well a similarity finds the neighbour of a passage among all others.
 *
 * @param count Passages, pairs of neighbours
 * @param similarity Of two passages, by their indices
 * @returns The mean of one over the rank of the neighbour, and the share of neighbours that come first
 */
export function scoreSearch(
  count: number,
  similarity: (a: number, b: number) => number,
): { readonly meanReciprocalRank: number; readonly first: number } {
  let reciprocal = 0, first = 0;
  for (let query = 0; query < count; query += 2) {
    const wanted = similarity(query, query + 1);
    let rank = 1;
    for (let other = 0; other < count; other++) {
      if (other !== query && other !== query + 1 && similarity(query, other) > wanted) rank++;
    }
    reciprocal += 1 / rank;
    if (rank === 1) first++;
  }
  return { meanReciprocalRank: 2 * reciprocal / count, first: 2 * first / count };
}
