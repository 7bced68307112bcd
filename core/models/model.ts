/**
 * A model: a family, its configuration and its parameters, as plain data.
 *
 * @module
 */

import { linear } from "../nn/linear.ts";
import { nextLabels } from "../ops/cross_entropy.ts";
import { linearCrossEntropy } from "../ops/linear_cross_entropy.ts";
import type { Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";
import { configReader, type Family } from "./family.ts";

/** A causal language model. */
export interface Model<P extends object = object> {
  /** What kind of model it is. */
  readonly family: Family;
  /** The family's view of `config.json`. */
  readonly config: unknown;
  /** Parameters by nested name. */
  readonly params: P;
  /** Longest sequence, in tokens. */
  readonly maxLength: number;
  /** Entries of the vocabulary. */
  readonly vocabSize: number;
  /** Content of its `config.json`, written back when it is saved. */
  readonly source: Readonly<Record<string, unknown>>;
  /** alpha / r where the parameters hold LoRA pairs. */
  readonly loraScale?: number;
  /** Most bytes of scores that its loss holds at a time; 128 MiB, which every adapter can bind, when absent. */
  readonly scoreBytes?: number;
  /** Which parameters are to be trained; all when absent. */
  readonly trainable?: (path: Path) => boolean;
}

/**
 * Reads a configuration: everything of a model but its parameters.
 *
 * @param source Content of `config.json`
 * @param options The families to choose from, and the file's path for errors
 * @returns The model without parameters
 * @throws {TypeError} When the family is unknown, or a value is missing or of the wrong kind
 */
export function describeModel(
  source: Readonly<Record<string, unknown>>,
  { families, file }: { readonly families: { readonly [modelType: string]: Family }; readonly file: string },
): Omit<Model, "params"> {
  const read = configReader(source, file);
  const type = read.string("model_type");
  if (!Object.hasOwn(families, type)) {
    throw read.error("model_type", `it must be one of ${Object.keys(families).join(", ")}`, type);
  }
  const family = families[type];
  const config: unknown = family.parse(read);
  return { family, config, source, maxLength: family.maxLength(config), vocabSize: family.vocabSize(config) };
}

/** A batch of token ids. */
export interface TokenBatch {
  /** i32 [B, T]. */
  readonly inputIds: Tensor;
  /** i32 [B, T]: the same ids; -100 where nothing is to be learned. The loss shifts them. */
  readonly labels: Tensor;
}

/**
 * Scores of the next token at every position.
 *
 * @param model The model; `params` may be any tree of its shape
 * @param ids i32 [B, T]
 * @returns f32 [B, T, V]
 * @throws {RangeError} When the sequence is longer than the model allows
 */
export function logits(model: Model, ids: Tensor): Tensor {
  return linear(hiddenStates(model, ids), { weight: model.family.head(model.params) });
}

/**
 * Hidden states before the head.
 *
 * @param model The model
 * @param ids i32 [B, T]
 * @returns f32 [B, T, C]
 * @throws {RangeError} When the sequence is longer than the model allows
 */
export function hiddenStates(model: Model, ids: Tensor): Tensor {
  const length = ids.shape[1];
  if (length > model.maxLength) {
    throw new RangeError(
      `Cannot run "${model.family.name}" on ${length} tokens as max_position_embeddings is ${model.maxLength}: use shorter sequences`,
    );
  }
  return model.family.hidden(model.params, ids, { config: model.config, loraScale: model.loraScale });
}

/**
 * The loss of next-token prediction, for training and evaluation.
 *
 * @param model The model
 * @returns From parameters and a batch to the mean loss over labelled positions, in nats
 */
export function nextTokenLoss<P extends object>(model: Model<P>): (params: P, batch: TokenBatch) => Tensor {
  return (params, { inputIds, labels }) =>
    linearCrossEntropy(hiddenStates({ ...model, params }, inputIds), {
      weight: model.family.head(params),
      labels: nextLabels(labels),
      bytes: model.scoreBytes,
    });
}
