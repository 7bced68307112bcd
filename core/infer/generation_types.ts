/**
 * What generation takes and gives.
 *
 * @module
 */

import type { KernelTime } from "../runtime/profile.ts";
import type { Processor } from "./sampler.ts";
import type { Sampling } from "./sampling.ts";
import type { ToldToken } from "./told.ts";

/** Options of {@link defineGeneration}. */
export interface GenerationOptions extends Sampling {
  /** Ids that end a sequence; `eos_token_id` of the model's `config.json` when absent. */
  readonly stop?: readonly number[];
  /** Own steps that change scores, before the temperature; none when absent. */
  readonly processors?: readonly Processor[];
  /** Tokens that a sequence is expected to have at the end: the cache has room for them at once. It grows beyond. */
  readonly expected?: number;
}

/** Options of {@link Generation.init}. */
export interface PromptOptions {
  /** How each sequence is sampled, where it is not as all others; by default seeds count up from that of all. */
  readonly sampling?: readonly Sampling[];
  /** How many of the last tokens of each prompt count as generated; 0 when absent. Seeds go on where they were either way. */
  readonly generated?: readonly number[];
  /** A state whose cache is used again for the tokens with which a prompt begins alike. It is consumed. */
  readonly from?: GenerationState;
}

/** A sequence of tokens. */
export interface Sequence {
  /** The prompt and what was generated. */
  readonly tokens: readonly number[];
  /** How many of the tokens were generated. */
  readonly generated: number;
  /** The tokens that the last call added. */
  readonly added: readonly number[];
  /** How likely each of these was; absent where nothing is to be told. */
  readonly told?: readonly ToldToken[];
  /** Whether it has reached a token that ends it, which it does not have. */
  readonly ended: boolean;
}

/** Sequences that are being generated. */
export interface GenerationState {
  /** One for each prompt. */
  readonly sequences: readonly Sequence[];
  /** Whether all of them have ended. */
  readonly done: boolean;
  /** Calls of `next` so far. */
  readonly step: number;
}

/** Generation as a reducer. It holds the cache of its last state, so that a new `init` consumes the state before. */
export interface Generation extends Disposable {
  /**
   * Reads prompts.
   *
   * @param prompts Ids of each sequence, at least one
   * @param options How each sequence is sampled, and a state to go on from
   * @returns The first state, without new tokens
   */
  init(
    prompts: readonly (Int32Array | readonly number[])[],
    options?: PromptOptions,
  ): Promise<GenerationState>;
  /**
   * Adds tokens to all sequences that have not ended, and reads them at the end: the device chooses each token and feeds it to
   * itself. A sequence that ends within them is cut there.
   *
   * @param state The last state; it is consumed
   * @param count How many tokens; 1 when absent
   * @returns The next state
   */
  next(state: GenerationState, count?: number): Promise<GenerationState>;
  /**
   * Draws a token that the next call of `next` reads, and measures the time of each launch. It needs the feature
   * `timestamp-query`.
   *
   * @param state The last state; it stays
   * @returns One row a launch, in order
   */
  profile(state: GenerationState): Promise<KernelTime[]>;
  /**
   * Checks that no training step has consumed the parameters since the last call.
   *
   * @throws {ConsumedError} When one has
   */
  check(): void;
}
