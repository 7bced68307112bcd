/**
 * What the policies are compared on: prediction of the next token, or of a class by a token that names it.
 *
 * Axes: B batch, T time, C channels, K classes.
 *
 * @module
 */

import {
  embedding,
  equal,
  type Gpu,
  InputError,
  matmul,
  max,
  type Model,
  multiply,
  nextTokenLoss,
  reshape,
  sum,
  type Tensor,
  tensor,
  type TokenBatch,
} from "@firn/train";
import { headOf, hiddenStates } from "@firn/train/models";
import { IGNORE } from "@firn/train/ops";
import {
  type Corpus,
  encodePrompt,
  packCorpus,
  predictions,
  splitCorpus,
  type Tokenizer,
  tokenWindows,
} from "@firn/train/data";
import { recordEvaluation } from "../../core/infer/evaluate.ts";
import { randomOrder } from "../../policies/random.ts";
import type { Example, Labelled } from "../../examples/labelled_text.ts";

/** How good a model is on a part of the data. */
export interface Quality {
  /** Mean loss of a prediction, nats. */
  readonly loss: number;
  /** Share of examples whose own label scores highest; null where there are no labels. */
  readonly accuracy: number | null;
}

/** Validation of a run, recorded once. */
export interface Watch {
  /** Loss on the validation part: what early stopping looks at. */
  loss(): Promise<number>;
  /** Accuracy on the validation part; null where there are no labels. */
  accuracy(): Promise<number | null>;
  close(): void;
}

/** Something to train a language model on. */
export interface Task {
  /** What it is, in lines. */
  readonly about: readonly string[];
  /** The batches of a seed, from the first step on, without end. */
  batches(seed: number): Generator<TokenBatch, never, undefined>;
  /** Prepares validation of parameters, whatever they are at the time: steps replace them in place. */
  watch(params: object): Promise<Watch>;
  /** Quality on the test part, by which nothing decides. */
  test(params: object): Promise<Quality>;
}

/** Sizes of a task. */
export interface TaskOptions {
  readonly gpu: Gpu;
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  /** Sequences in a batch, B. */
  readonly batch: number;
  /** Tokens in a sequence, T. */
  readonly length: number;
  /** Most batches of the validation part that are watched. */
  readonly watch: number;
}

/**
 * Prediction of the next token. The last tenth of the text is held out: its first half for validation, its second for the
 * test.
 *
 * @param corpus The text
 * @param options Model and sizes
 * @returns The task
 */
export async function textTask(corpus: Corpus, options: TaskOptions): Promise<Task> {
  const { gpu, model, tokenizer, watch } = options;
  const { train, heldOut } = await splitCorpus(corpus);
  const { train: validation, heldOut: test } = await splitCorpus(heldOut, 0.5);
  const idsOf = (part: Corpus) => packCorpus(tokenizer, part);
  const trainIds = await idsOf(train), windows = tokenWindows(trainIds, options);
  const watched = tokenWindows(await idsOf(validation), options).all().slice(0, watch);
  const judged = tokenWindows(await idsOf(test), options).all();
  const lossOver = (batches: readonly TokenBatch[], params: object) =>
    lossOf(gpu, { model, params, batches });
  return {
    about: [
      `${windows.count} windows of ${options.length} tokens to train on`,
      `${watched.length} batches of ${options.batch} to validate on, ${judged.length} to test on`,
    ],
    batches: (seed) => tokenWindows(trainIds, { ...options, seed }).from(1),
    async watch(params) {
      const loss = await lossOver(watched, params);
      return { loss: loss.value, accuracy: () => Promise.resolve(null), close: loss.close };
    },
    test: async (params) => ({ loss: await once(lossOver(judged, params)), accuracy: null }),
  };
}

/** What follows a text; the label's token comes next. */
const QUESTION = "\nClass:";
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** A batch whose predictions can be judged. */
interface LabelledBatch extends TokenBatch {
  /** i32 [B]: row of B * T whose hidden state predicts the label. */
  readonly places: Tensor;
  /** f32 [B, K]: 1 at the label; zeros in rows that pad. */
  readonly wanted: Tensor;
}

/**
 * Classification by the language model: a text, cut where the sequence would be full, `"\nClass:"`, and the token of a
 * letter that stands for the label. Loss is taken at that token alone, over the whole vocabulary; a prediction is right
 * when the letter of its label scores highest of all letters in use.
 *
 * @param examples The examples
 * @param options Model and sizes
 * @returns The task
 * @throws {InputError} When there are more than 26 labels, or no room for a text
 */
export function labelTask(examples: Labelled, options: TaskOptions): Task {
  const { gpu, model, batch, length, watch } = options;
  const names = [...new Set(examples.train.map(({ label }) => label))].sort();
  const all = [...examples.train, ...examples.validation, ...examples.test];
  const strange = all.find(({ label }) => !names.includes(label));
  if (names.length > LETTERS.length || strange !== undefined) {
    const seen = strange === undefined ? `there are ${names.length}` : `"${strange.label}" is not`;
    throw new InputError(
      `Cannot classify as labels must be at most 26 and all in the training part: ${seen}; leave some out`,
    );
  }
  const letters = names.map((_, i) => letterId(options.tokenizer, LETTERS[i]));
  const rowOf = rowMaker({ ...options, names, letters });
  const train = examples.train.map(rowOf);
  const batchesOf = (rows: readonly Row[]) =>
    Array.from(
      { length: Math.ceil(rows.length / batch) },
      (_, i) => batchOf(rows.slice(i * batch, (i + 1) * batch), { ...options, classes: names.length }),
    );
  // Examples may come label by label.
  const order = randomOrder(examples.validation.length, { seed: 0, draw: 0 }).slice(0, watch * batch);
  const watched = batchesOf(order.map((i) => rowOf(examples.validation[i])));
  const judged = batchesOf(examples.test.map(rowOf));
  const ids = tensor(Int32Array.from(letters));
  const right = (params: object, { inputIds, places, wanted }: LabelledBatch): Tensor => {
    const hidden = hiddenStates({ ...model, params }, { inputIds }); // [B, T, C]
    const states = embedding(reshape(hidden, [batch * length, hidden.shape[2]]), places); // [B, C]
    const { weight } = headOf(model).output!(params);
    const scores = matmul(states, embedding(weight, ids), { transposeB: true }); // [B, K]
    const own = sum(multiply(scores, wanted), 1), counts = sum(wanted, 1);
    return sum(multiply(equal(own, max(scores, 1)), counts));
  };
  const lossOver = (batches: readonly LabelledBatch[], params: object) =>
    lossOf(gpu, { model, params, batches: batches.map(({ inputIds, labels }) => ({ inputIds, labels })) });
  const accuracyOver = async (batches: readonly LabelledBatch[], params: object): Promise<Measure> => {
    const evaluation = await recordEvaluation(gpu, { loss: right, params, batches });
    const total = batches.reduce((n, one) => n + predictions(one), 0);
    const value = async () => (await evaluation.run()).losses.reduce((a, b) => a + b, 0) / total;
    return { value, close: evaluation.destroy };
  };
  const shares = names.map((name) =>
    examples.test.filter(({ label }) => label === name).length / examples.test.length
  );
  return {
    about: [
      `${examples.train.length} texts to train on, ${order.length} to validate on, ${examples.test.length} to test on`,
      `labels: ${names.map((name, i) => `${LETTERS[i]} ${name}`).join(", ")}; always saying ${
        names[shares.indexOf(Math.max(...shares))]
      } is right in ${(100 * Math.max(...shares)).toFixed(1)} % of the test`,
    ],
    *batches(seed) {
      for (let position = 0, order: number[] = [];; position += batch) {
        const rows = Array.from({ length: batch }, (_, i) => {
          const at = (position + i) % train.length;
          const draw = Math.floor((position + i) / train.length);
          if (at === 0) order = randomOrder(train.length, { seed, draw });
          return train[order[at]];
        });
        const { inputIds, labels } = batchOf(rows, { ...options, classes: names.length });
        yield { inputIds, labels };
      }
    },
    async watch(params) {
      const loss = await lossOver(watched, params), accuracy = await accuracyOver(watched, params);
      const close = (): void => [loss, accuracy].forEach((measure) => measure.close());
      return { loss: loss.value, accuracy: accuracy.value, close };
    },
    test: async (params) => ({
      loss: await once(lossOver(judged, params)),
      accuracy: await once(accuracyOver(judged, params)),
    }),
  };
}

/** The token of a letter: after a space where that is one token, else alone. */
function letterId(tokenizer: Tokenizer, letter: string): number {
  for (const text of [` ${letter}`, letter]) {
    const ids = tokenizer.encode(text);
    if (ids.length === 1) return ids[0];
  }
  throw new InputError(`Cannot classify as the tokenizer must have a token for "${letter}": it has none`);
}

/** An example as tokens; the last is the label's. */
interface Row {
  readonly ids: readonly number[];
  readonly label: number;
}

function rowMaker(
  { tokenizer, length, names, letters }: TaskOptions & {
    readonly names: readonly string[];
    readonly letters: readonly number[];
  },
): (example: Example) => Row {
  const question = tokenizer.encode(QUESTION), room = length - question.length - 1;
  if (room < 1) {
    throw new InputError(
      `Cannot classify as a sequence must hold a text and ${question.length + 1} tokens after it: ` +
        `--length is ${length}`,
    );
  }
  // Enough characters to fill a sequence, and not all of a long mail.
  const most = 8 * length;
  return ({ text, label }) => {
    const index = names.indexOf(label);
    const ids = encodePrompt(tokenizer, text.slice(0, most)).slice(0, room);
    return { ids: [...ids, ...question, letters[index]], label: index };
  };
}

function batchOf(
  rows: readonly Row[],
  { batch, length, classes }: Pick<TaskOptions, "batch" | "length"> & { readonly classes: number },
): LabelledBatch {
  const inputIds = new Int32Array(batch * length), labels = new Int32Array(batch * length).fill(IGNORE);
  const places = new Int32Array(batch), wanted = new Float32Array(batch * classes);
  rows.forEach(({ ids, label }, row) => {
    const last = row * length + ids.length - 1;
    inputIds.set(ids, row * length);
    labels[last] = inputIds[last];
    places[row] = last - 1;
    wanted[row * classes + label] = 1;
  });
  return {
    inputIds: tensor(inputIds, [batch, length]),
    labels: tensor(labels, [batch, length]),
    places: tensor(places),
    wanted: tensor(wanted, [batch, classes]),
  };
}

/** A recorded number. */
interface Measure {
  value(): Promise<number>;
  close(): void;
}

async function once(measure: Promise<Measure>): Promise<number> {
  const { value, close } = await measure;
  try {
    return await value();
  } finally {
    close();
  }
}

/** Mean loss over all predictions, not over batches. */
async function lossOf(
  gpu: Gpu,
  { model, params, batches }: {
    readonly model: Model;
    readonly params: object;
    readonly batches: readonly TokenBatch[];
  },
): Promise<Measure> {
  const evaluation = await recordEvaluation(gpu, { loss: nextTokenLoss(model), params, batches });
  const value = async (): Promise<number> => (await evaluation.run()).loss;
  return { value, close: evaluation.destroy };
}
