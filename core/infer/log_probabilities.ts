/**
 * How likely a model finds given texts, token by token.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { bestFit } from "../data/samples/best_fit.ts";
import { headOf, type Model, outputOf } from "../models/model.ts";
import { features, scoresOf } from "../models/tasks.ts";
import { crossEntropyOp, IGNORE } from "../ops/cross_entropy.ts";
import { embedding } from "../ops/embedding.ts";
import { concat, reshape, slice } from "../ops/movement.ts";
import type { Gpu, OnProgress } from "../runtime/device.ts";
import { tensor } from "../sources.ts";
import { apply, pick, type Tensor } from "../tensor.ts";
import { recordSeries } from "./series.ts";

/** A text, of which some tokens are asked about. */
export interface AskedText {
  /** Its tokens. */
  readonly ids: readonly number[];
  /** The first token that is asked about; nothing tells how likely the first one of a text is. */
  readonly from: number;
}

/** Options of {@link logProbabilities}. */
export interface LogProbabilitiesOptions {
  /** Rows of a batch, each as long as the longest text or longer, and filled with texts; 8 when absent. */
  readonly batch?: number;
  /** Called with the texts that are done, about twice a second. */
  readonly onProgress?: OnProgress;
}

/** The least length of a row. Lengths are doubled from there, so that few shapes are compiled. */
const LEAST_LENGTH = 16;

/** Bytes of scores at a time. */
const SCORE_BYTES = 2 ** 26;

/**
 * Computes how likely tokens are, each after those before it. Texts share rows, and rows a pass over the weights; none sees
 * another.
 *
 * Beyond the model's longest sequence, a text loses its first tokens.
 *
 * @param gpu The device
 * @param model The model
 * @param options The texts, how many share a pass, who is told of the progress
 * @returns Of each text natural logarithms of probabilities: one for each token from `from` on, which is 1 or more
 * @throws {InputError} When the model does not predict tokens, or a text has no such token
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu } from "@firn/train";
 * import { logProbabilities } from "@firn/train/infer";
 * import { newModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const model = await newModel(gpu, { source, seed: 1 });
 * const [found] = await logProbabilities(gpu, model, { texts: [{ ids: [1, 2, 3], from: 1 }] });
 * // A new model knows nothing: each of 10 ids is as likely as any other.
 * found.forEach((value) => assertAlmostEquals(value, Math.log(1 / 10), 0.1));
 * ```
 */
export async function logProbabilities(
  gpu: Gpu,
  model: Model,
  { texts, batch = 8, onProgress }: LogProbabilitiesOptions & { readonly texts: readonly AskedText[] },
): Promise<readonly (readonly number[])[]> {
  if (texts.length === 0) return [];
  const own = texts.map((text) => checked(model, text)), lengths = own.map(({ ids }) => ids.length);
  const length = Math.min(model.maxLength, LEAST_LENGTH * 2 ** doublings(Math.max(...lengths)));
  const packs = model.family.inputs?.includes("segments") === true;
  const bins = packs ? bestFit(lengths, length) : lengths.map((_, i) => [i]);
  const batches = chunks(bins, Math.min(batch, bins.length));
  const askedOf = (rows: Rows): number => sum(rows.flat().map((i) => lengths[i] - own[i].from));
  const asked = Math.ceil(Math.max(...batches.map(askedOf)) / 8) * 8, rows = batches[0].length;
  const doneBefore = (count: number): number => sum(batches.slice(0, count).map((all) => all.flat().length));
  const series = await recordSeries(gpu, {
    compute: (inputs: Batch) => lossesOf(model, inputs),
    batches: batches.map((bins) =>
      batchOf(bins.map((bin) => bin.map((i) => own[i])), { rows, length, asked, packs })
    ),
    onProgress: onProgress && (({ done }) => onProgress({ done: doneBefore(done), total: texts.length })),
  });
  try {
    series.check();
    const losses = await series.run(), result = own.map((): number[] => []);
    for (const [b, all] of batches.entries()) {
      let at = b * asked;
      for (const i of all.flat()) {
        result[i] = Array.from(losses.subarray(at, at += lengths[i] - own[i].from), (loss) => -loss);
      }
    }
    return result;
  } finally {
    series.destroy();
  }
}

/** What each row of a batch holds, one after the other. */
type Rows<T = number> = readonly (readonly T[])[];

/** How often the least length must be doubled to hold so many tokens. */
const doublings = (tokens: number): number => Math.max(0, Math.ceil(Math.log2(tokens / LEAST_LENGTH)));

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** Tokens of some texts, and where those are predicted that are asked about. */
interface Batch {
  /** i32 [B, T]. */
  readonly inputIds: Tensor;
  /** i32 [B, T]: which text a token belongs to; absent where a row has one. */
  readonly segments?: Tensor;
  /** i32 [A]: which of all B T positions predict them. */
  readonly places: Tensor;
  /** i32 [A]: them; -100 where there are no more. */
  readonly labels: Tensor;
}

/** Losses of what is asked about, f32 [A]. Scores of some rows are dropped before those of the next are made. */
function lossesOf(model: Model, { places, labels, ...input }: Batch): Tensor {
  const hidden = features(model, input), [batch, time, channels] = hidden.shape;
  const rows = embedding(reshape(hidden, [batch * time, channels]), places), [count] = places.shape;
  const [classes] = outputOf(model).weight.shape, { scoreBytes = SCORE_BYTES } = model;
  const most = Math.max(1, Math.floor(scoreBytes / (4 * classes)));
  const parts = Array.from({ length: Math.ceil(count / most) }, (_, i) => {
    const start = i * most, size = Math.min(most, count - start);
    const scores = scoresOf(model, slice(rows, { starts: [start, 0], sizes: [size, channels] }));
    const own = slice(labels, { starts: [start], sizes: [size] });
    return pick(apply(crossEntropyOp, [scores, own], { classes }), 0);
  });
  return parts.length === 1 ? parts[0] : concat(parts, 0);
}

function batchOf(
  bins: Rows<AskedText>,
  { rows, length, asked, packs }: {
    readonly rows: number;
    readonly length: number;
    readonly asked: number;
    readonly packs: boolean;
  },
): Batch {
  const ids = new Int32Array(rows * length), segments = new Int32Array(rows * length);
  const places = new Int32Array(asked), labels = new Int32Array(asked).fill(IGNORE);
  let at = 0;
  for (const [row, texts] of bins.entries()) {
    let begin = row * length;
    for (const [i, text] of texts.entries()) {
      ids.set(text.ids, begin);
      segments.fill(i + 1, begin, begin + text.ids.length);
      for (let t = text.from; t < text.ids.length; t++, at++) {
        places[at] = begin + t - 1;
        labels[at] = text.ids[t];
      }
      begin += text.ids.length;
    }
  }
  const of = (values: Int32Array): Tensor => tensor(values, [rows, length]);
  const input = packs ? { inputIds: of(ids), segments: of(segments) } : { inputIds: of(ids) };
  return { ...input, places: tensor(places), labels: tensor(labels) };
}

/** A text that fits the model. */
function checked(model: Model, { ids, from }: AskedText): AskedText {
  const { task } = headOf(model);
  const fail = (rule: string, seen: string): never => {
    throw new InputError(`Cannot tell how likely a text is as ${rule}: ${seen}`);
  };
  if (task !== "nextToken") fail(`the task of "${model.architecture}" must be nextToken`, `it is ${task}`);
  if (!(Number.isSafeInteger(from) && from >= 1 && from < ids.length)) {
    fail(`"from" must be the place of a token after the first of ${ids.length}`, `got ${from}`);
  }
  const cut = Math.max(0, ids.length - model.maxLength);
  return { ids: ids.slice(cut), from: Math.max(1, from - cut) };
}

function chunks<T>(all: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, i) => all.slice(i * size, (i + 1) * size));
}
