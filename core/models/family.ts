/**
 * What a model family is: a configuration, parameters, hidden states, and the heads that tasks need.
 *
 * @module
 */

import type { LinearParams } from "../nn/linear.ts";
import type { Tensor } from "../tensor.ts";
import type { ConfigReader } from "./config_reader.ts";

/** What a model is for: the next token, a class of a sequence, of each token or of an image. */
export type Task = "nextToken" | "sequenceClass" | "tokenClass" | "imageClass";

/** What a model of text reads. */
export interface TokenInput {
  /** i32 [B, T]. */
  readonly inputIds: Tensor;
}

/** What a model of images reads. */
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
}

/**
 * A model family: one file, and one row of the table in `models/mod.ts`. It says nothing about ids, a vocabulary or a
 * loss: `I` is what it reads, and heads say what it is for.
 */
export interface Family<C extends object = object, P extends object = object, I extends object = object> {
  /** `model_type` of `config.json`. */
  readonly name: string;
  /** Reads and checks the configuration. */
  parse(read: ConfigReader): C;
  /** Declares the parameters, all but those of heads (see `core/nn/params.ts`). */
  params(config: C): object;
  /** Checkpoint keys that are no parameters, such as stored tables. */
  readonly ignored?: readonly RegExp[];
  /** Longest sequence, in positions; no limit when absent. */
  maxLength?(config: C): number;
  /** From input to hidden states, f32 [B, T, C]. */
  hidden(params: P, input: I, options: HiddenOptions<C>): Tensor;
  /** Heads by their entry of `architectures` in `config.json`; the first serves where there is none. */
  readonly heads: { readonly [architecture: string]: Head<C, P, I> };
}

/** What a task adds to a family: parameters of its own, and a last linear layer. */
export interface Head<C extends object = object, P extends object = object, I extends object = object> {
  /** What the head is for. */
  readonly task: Task;
  /** Declares the parameters that the family alone does not have. */
  params(config: C): object;
  /** What the last linear layer reads, f32 [..., C], from hidden states f32 [B, T, C]; those when absent. */
  features?(hidden: Tensor, options: FeatureOptions<C, P, I>): Tensor;
  /** The last linear layer: scores are what it makes of features. */
  output(params: P): LinearParams;
}

/** What a head's features may depend on besides hidden states. */
export interface FeatureOptions<
  C extends object = object,
  P extends object = object,
  I extends object = object,
> extends HiddenOptions<C> {
  /** Parameters of family and head. */
  readonly params: P;
  /** What the family has read. */
  readonly input: I;
}
