/**
 * The interface of a model family: configuration, parameters, hidden states, and a head for each task.
 *
 * @module
 */

import type { Dropouts } from "../nn/dropout.ts";
import type { LinearParams } from "../nn/linear.ts";
import type { Tensor } from "../tensor.ts";
import type { ProblemType } from "./class_head.ts";
import type { ConfigReader } from "./config_reader.ts";
import type { DropoutDefaults } from "./dropout.ts";

/**
 * What a model predicts: the next token, or the class of a sequence, of each token or of an image. A model for `features`
 * predicts nothing and gives its hidden states.
 */
export type Task = "nextToken" | "sequenceClass" | "tokenClass" | "imageClass" | "features";

/** Input of models of text. */
export interface TokenInput {
  /** i32 [B, T]. */
  readonly inputIds: Tensor;
  /** i32 [B, T]: 1 for a token, 0 for padding, which stands before or after all tokens of its row; no padding when absent. */
  readonly attentionMask?: Tensor;
  /**
   * i32 [B, T]: the documents of packed rows, each a run of equal numbers; no token sees another document. A row is one when
   * absent. Label the first token of a document -100, or the token before it learns to predict it.
   */
  readonly segments?: Tensor;
  /** i32 [B, T]: which text of several each token belongs to, where the family has such types; 0 when absent. */
  readonly tokenTypeIds?: Tensor;
}

/** Input of models of images. */
export interface ImageInput {
  /** f32 [B, channels, height, width]. */
  readonly pixelValues: Tensor;
}

/** Options of a family's hidden states. */
export interface HiddenOptions<C extends object = object> {
  /** The family's view of `config.json`. */
  readonly config: C;
  /** alpha / r where the parameters hold LoRA pairs. */
  readonly loraScale?: number;
  /** What is dropped in training; nothing when absent. */
  readonly dropout?: Dropouts;
}

/**
 * A model family: one file, and one row of the table in `models/mod.ts`. It needs neither ids nor a vocabulary: `I` is
 * the type of its input. It has no loss: that is up to the task of a head.
 */
export interface Family<C extends object = object, P extends object = object, I extends object = object> {
  /** `model_type` of `config.json`. */
  readonly name: string;
  /** What people call it; its `name` when absent. */
  readonly title?: string;
  /** Reads and checks the configuration. */
  parse(read: ConfigReader): C;
  /** Declares the parameters, all but those of heads (see `core/nn/params.ts`). */
  params(config: C): object;
  /**
   * The first part of the names of the family's parameters, such as `bert`. A checkpoint may lack it, as one without a head
   * does.
   */
  readonly basePrefix?: string;
  /** Other names of parameters in checkpoints: patterns in order, and what replaces a match of each. */
  readonly aliases?: readonly (readonly [pattern: RegExp, replacement: string])[];
  /**
   * Names of modules in `transformers`, where checkpoints have others: patterns in order, and what replaces a match of each.
   * Targets of adapters go by both.
   */
  readonly moduleNames?: readonly (readonly [pattern: RegExp, replacement: string])[];
  /** Keys of `config.json` that are rates of dropout, with those of absent keys; none when absent. */
  readonly dropouts?: DropoutDefaults;
  /** Checkpoint keys that are no parameters, such as stored tables. */
  readonly ignored?: readonly RegExp[];
  /** Which optional tensors of its input it reads; none when absent. */
  readonly inputs?: readonly ("attentionMask" | "segments" | "tokenTypeIds")[];
  /** Longest sequence, in positions; no limit when absent. */
  maxLength?(config: C): number;
  /** From input to hidden states, f32 [B, T, C]. */
  hidden(params: P, input: I, options: HiddenOptions<C>): Tensor;
  /** Heads by their entry of `architectures` in `config.json`; the first serves where there is none. */
  readonly heads: { readonly [architecture: string]: Head<C, P, I> };
}

/** The part of a model that depends on the task: its own parameters, and the last linear layer. */
export interface Head<C extends object = object, P extends object = object, I extends object = object> {
  /** What it predicts. */
  readonly task: Task;
  /** Declares the parameters of the head. */
  params(config: C): object;
  /** What the scores of a head for classes mean; one class of each row when absent. */
  problem?(config: C): ProblemType | null;
  /** From hidden states f32 [B, T, C] to the input of the last linear layer, f32 [..., C]; the identity when absent. */
  features?(hidden: Tensor, options: FeatureOptions<C, P, I>): Tensor;
  /** The last linear layer, which maps features to scores; a head for `features` has none. */
  output?(params: P): LinearParams;
  /** A bound of the scores, `cap * tanh(scores / cap)`; none when absent or null. */
  softCap?(config: C): number | null;
}

/** Options of a head's features. */
export interface FeatureOptions<
  C extends object = object,
  P extends object = object,
  I extends object = object,
> extends HiddenOptions<C> {
  /** Parameters of family and head. */
  readonly params: P;
  /** Input of the model. */
  readonly input: I;
}
