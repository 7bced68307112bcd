/**
 * What the page asks of a run.
 *
 * @module
 */

/** Settings of a run. A type, as an interface is not assignable to `Json`. */
export type Settings = {
  /** What is trained: the whole model, or a LoRA adapter beside it. */
  readonly method: "model" | "adapter";
  /** Rank of the adapter. */
  readonly rank: number;
  /** Optimizer steps. */
  readonly steps: number;
  /** Sequences in a batch. */
  readonly batch: number;
  /** Tokens in a sequence. */
  readonly length: number;
  /** Largest learning rate; null for the one that the model's card recommends. */
  readonly rate: number | null;
  /** Whether GradES freezes what has converged. */
  readonly freeze: boolean;
  /** Threshold of GradES. */
  readonly tau: number;
  /** Share of the steps in which GradES freezes nothing. */
  readonly alpha: number;
  /** Seed of batches, of the adapter, and of samples. */
  readonly seed: number;
  /** Beginning of the samples. */
  readonly prompt: string;
};

/** The settings of `./firn finetune`. */
export const DEFAULTS: Settings = {
  method: "model",
  rank: 8,
  steps: 120,
  batch: 8,
  length: 64,
  rate: null,
  freeze: true,
  tau: 30,
  alpha: 0.5,
  seed: 0,
  prompt: "The state of",
};

/** What a checkpoint of the page keeps beside the state. */
export type RunRecord = {
  /** What the model is called. */
  readonly model: string;
  /** Whether the model is the one that the page brings. */
  readonly own: boolean;
  /** What the text is called. */
  readonly text: string;
  readonly settings: Settings;
};
