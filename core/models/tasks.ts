/**
 * Tasks: from hidden states to scores and losses.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { fingerprint, wordsOf } from "../fingerprint.ts";
import { isRecord } from "../json_rules.ts";
import { linear } from "../nn/linear.ts";
import { checkPadding } from "../nn/padding.ts";
import { nextLabels } from "../ops/cross_entropy.ts";
import { linearCrossEntropy, softCapped } from "../ops/linear_cross_entropy.ts";
import type { Tensor } from "../tensor.ts";
import { isTensor } from "../tree.ts";
import { classRowLoss, rowLoss } from "./class_loss.ts";
import { dropoutRates, dropoutsOf } from "./dropout.ts";
import type { ImageInput, Task, TokenInput } from "./family.ts";
import { countLabels, type Loss, predictions } from "./loss.ts";
import {
  checkRegularization,
  dropoutOf,
  needsScores,
  type Regularization,
  regularizedLoss,
  withNoise,
} from "./regularize.ts";
import { headOf, hiddenStates, type Model, outputOf, readParams } from "./model.ts";

/** A batch of token ids. */
export interface TokenBatch extends TokenInput {
  /** i32 [B, T]: the same ids; -100 where nothing is to be learned. The loss shifts them. */
  readonly labels: Tensor;
}

/** A batch of inputs and the classes that they belong to. */
export type ClassBatch<I extends object = TokenInput> = I & {
  /**
   * i32 [B], or [B, T] for a class of each token; -100 where nothing is to be learned. For several classes of a row, f32
   * [B, K] of 0 and 1; for a regression, f32 [B] or [B, K].
   */
  readonly labels: Tensor;
};

/** A batch of images. */
export type ImageBatch = ClassBatch<ImageInput>;

/**
 * The input of the head's linear layer.
 *
 * @param model The model
 * @param input Its input
 * @returns f32 [..., C]: a row for each position, or each sequence or image
 * @throws {InputError} When the sequence is longer than the model allows, or packed rows are to get one class each
 */
export function features<I extends object>(model: Model<object, I>, input: I): Tensor {
  if (headOf(model).task === "sequenceClass" && (input as Partial<TokenInput>).segments !== undefined) {
    throw new InputError(
      `Cannot classify with "${model.architecture}" on "segments" as it gives each row one class: ` +
        "give each document a row of its own",
    );
  }
  const { config, loraScale } = model, hidden = hiddenStates(model, input);
  const dropout = dropoutsOf(model, "head"), options = { input, config, loraScale, dropout };
  return headOf(model).features?.(hidden, { params: readParams(model), ...options }) ?? hidden;
}

/**
 * Scores of a model's head: of the next token at every position, or of classes.
 *
 * @param model The model; `params` may be any tree of its shape
 * @param input Its input; models of text also take the ids alone, i32 [B, T]
 * @returns f32 [..., V]; for the next token [B, T, V]
 * @throws {InputError} When the sequence is longer than the model allows
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { logits, openGpu, tensor } from "@firn/train";
 * import { newModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const model = await newModel(gpu, { source, seed: 1 });
 * assertEquals(logits(model, tensor(new Int32Array([1, 2, 3]), [1, 3])).shape, [1, 3, 10]);
 * ```
 */
export function logits<I extends object>(
  model: Model<object, I>,
  input: I | (I extends TokenInput ? Tensor : never),
): Tensor {
  const record = (isTensor(input) ? { inputIds: input } : input) as I;
  return scoresOf(model, features(model, record));
}

/**
 * Scores of rows that the head's linear layer reads.
 *
 * @param model The model
 * @param rows Its {@link features}, f32 [..., C]
 * @returns f32 [..., V]
 */
export function scoresOf<I extends object>(model: Model<object, I>, rows: Tensor): Tensor {
  return softCapped(linear(rows, outputOf(model), model), headOf(model).softCap?.(model.config) ?? null);
}

/**
 * The loss of next-token prediction, for training and evaluation. It counts the tokens that it predicts, and has the
 * model's `trainable` and a fingerprint of its configuration.
 *
 * @param model The model
 * @param options Dropout, label smoothing, z-loss and noise on embeddings, for training alone; when absent, the dropout of the
 * configuration. Smoothing and z-loss need the scores of all positions at once
 * @returns From parameters and a batch to the mean loss over labelled positions, in nats
 * @throws {InputError} When the model's head is for another task, or a number is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { nextTokenLoss, openGpu, read, tensor } from "@firn/train";
 * import { newModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const source = { model_type: "llama", hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1,
 *   num_attention_heads: 2, vocab_size: 10, tie_word_embeddings: true };
 * const model = await newModel(gpu, { source, seed: 1 });
 * const ids = tensor(new Int32Array([1, 2, 3]), [1, 3]);
 * const loss = nextTokenLoss(model)(model.params, { inputIds: ids, labels: ids });
 * // A new model knows nothing: each of 10 ids is as likely as any other.
 * assertAlmostEquals((await read(gpu, loss))[0], Math.log(10), 0.1);
 * ```
 */
export function nextTokenLoss<P extends object, I extends TokenInput = TokenInput>(
  model: Model<P, I>,
  options: Regularization = {},
): Loss<P, I & { readonly labels: Tensor }> {
  checkTask(model, ["nextToken"]);
  checkRegularization("nextTokenLoss", options);
  const dropout = dropoutOf(options);
  const loss = (params: P, batch: I & { readonly labels: Tensor }, { training = false } = {}): Tensor => {
    const subject = { ...model, params, training, dropout };
    const clean = features(subject, batch), labels = nextLabels(batch.labels);
    const rows = training ? withNoise(clean, { ...options, ids: batch.inputIds }) : clean;
    if (training && needsScores(options)) {
      return regularizedLoss(scoresOf(subject, rows), { ...options, labels });
    }
    const { weight, ...more } = outputOf(subject);
    if (Object.values(more).every((other) => other === undefined)) {
      const softCap = headOf(model).softCap?.(model.config);
      return linearCrossEntropy(rows, { weight, labels, softCap, bytes: model.scoreBytes });
    }
    return rowLoss(scoresOf(subject, rows), labels);
  };
  const known = fingerprintOf(model, options);
  return Object.assign(loss, { count: predictions, trainable: model.trainable, model: known });
}

/**
 * The loss of classification: of sequences, of tokens or of images. It counts the labels that are not ignored, and has the
 * model's `trainable` and a fingerprint of its configuration.
 *
 * @param model The model
 * @param options Dropout, label smoothing and z-loss of rows with one class, and noise on embeddings, for training alone; when
 * absent, the dropout of the configuration
 * @returns From parameters and a batch to the mean loss over labelled rows, in nats
 * @throws {InputError} When the model's head is for another task
 */
export function classLoss<P extends object, I extends object>(
  model: Model<P, I>,
  options: Regularization = {},
): Loss<P, ClassBatch<I>> {
  checkTask(model, ["sequenceClass", "tokenClass", "imageClass"]);
  checkRegularization("classLoss", options);
  const dropout = dropoutOf(options);
  const problem = headOf(model).problem?.(model.config) ?? null;
  const loss = (params: P, batch: ClassBatch<I>, { training = false } = {}): Tensor => {
    const subject = { ...model, params, training, dropout };
    const clean = features(subject, batch), { inputIds: ids } = batch as Partial<TokenInput>;
    const rows = training && ids !== undefined ? withNoise(clean, { ...options, ids }) : clean;
    const scores = scoresOf(subject, rows), regularized = training && needsScores(options);
    return classRowLoss(scores, { ...batch, problem, ...regularized && { regularization: options } });
  };
  const count = (batch: ClassBatch<I>): number => {
    const { attentionMask } = batch as Partial<TokenInput>;
    if (attentionMask !== undefined) checkPadding(attentionMask);
    return countLabels(batch.labels);
  };
  return Object.assign(loss, {
    count,
    trainable: model.trainable,
    model: fingerprintOf(model, options),
  });
}

/**
 * A fingerprint of what a model and its loss compute, its parameters aside. The order of keys in its configuration does not
 * count.
 *
 * @param model The model
 * @param options What regularizes it; `more`: further settings of the loss, as JSON; none when absent
 * @returns The fingerprint
 */
export function fingerprintOf<I extends object>(
  { family, architecture, source, loraScale, adapter }: Model<object, I>,
  options: Regularization & { readonly more?: readonly unknown[] } = {},
): string {
  const { dropout, seed, more = [], ...others } = options, rates = dropoutRates({ family, source }, dropout);
  const sorted = (_: string, value: unknown): unknown =>
    isRecord(value) ? Object.fromEntries(Object.entries(value).toSorted()) : value;
  const said = [
    architecture,
    source,
    loraScale ?? null,
    ...adapter === undefined ? [] : [[...adapter.layers]],
    ...(options.neftune ?? 0) > 0 ? [{ ...others, seed }] : needsScores(options) ? [others] : [],
    ...Object.keys(rates).length > 0 ? [rates, seed ?? 0] : [],
    ...more,
  ];
  return fingerprint([wordsOf(JSON.stringify(said, sorted))]);
}

/**
 * Refuses a model whose head is for another task.
 *
 * @param model The model
 * @param tasks The tasks
 * @throws {InputError} When its head is for none of them
 */
export function checkTask(
  { family, architecture }: Pick<Model<object, never>, "family" | "architecture">,
  tasks: readonly Task[],
): void {
  const { task } = family.heads[architecture];
  if (!tasks.includes(task)) {
    throw new InputError(
      `Cannot make a loss of "${architecture}" as its task must be ${tasks.join(", ")}: it is ${task}`,
    );
  }
}
