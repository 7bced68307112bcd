/**
 * Model shapes that benchmarks name, with random weights.
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  free,
  type FreezePolicy,
  type Gpu,
  nextTokenLoss,
  type Precision,
  sizeOf,
  type Tensor,
  tensor,
  type TokenBatch,
  type Training,
  type TrainingState,
} from "@firn/train";
import { modelParams } from "@firn/train/models";
import { newModel } from "@firn/train/hub";

/** Sizes of a Llama. */
export interface Shape {
  readonly hidden: number;
  readonly mlp: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly vocabulary: number;
}

/** Shapes by name. `gpt2-124m` has GPT-2's parameter count in the Llama form: a gated MLP of two thirds the width. */
export const SHAPES = {
  "gpt2-124m": { hidden: 768, mlp: 2048, layers: 12, heads: 12, kvHeads: 12, vocabulary: 50257 },
  "smollm2-135m": { hidden: 576, mlp: 1536, layers: 30, heads: 9, kvHeads: 3, vocabulary: 49152 },
  "llama-10m": { hidden: 288, mlp: 768, layers: 9, heads: 6, kvHeads: 6, vocabulary: 4096 },
  "llama-15m": { hidden: 288, mlp: 768, layers: 6, heads: 6, kvHeads: 6, vocabulary: 32000 },
  "sotu": { hidden: 128, mlp: 344, layers: 5, heads: 4, kvHeads: 2, vocabulary: 2048 },
  "tiny": { hidden: 64, mlp: 128, layers: 1, heads: 2, kvHeads: 1, vocabulary: 320 },
} as const satisfies Record<string, Shape>;

/** The configuration of a Llama whose embedding is its head; `length` is the longest sequence. */
export function sourceOf(shape: Shape, length: number): Record<string, unknown> {
  return {
    model_type: "llama",
    hidden_size: shape.hidden,
    intermediate_size: shape.mlp,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads,
    vocab_size: shape.vocabulary,
    max_position_embeddings: length,
    tie_word_embeddings: true,
  };
}

/** What a benchmark trains. */
export interface Work {
  readonly training: Training<object, TokenBatch>;
  readonly state: TrainingState<object>;
  readonly batch: TokenBatch;
  readonly loss: (params: object, batch: TokenBatch) => Tensor;
  readonly parameters: number;
}

/**
 * Makes training of a shape on one random batch: AdamW with global-norm clipping.
 *
 * @param gpu The device
 * @param options Shape and sizes of the batch
 * @returns Training, its first state and the batch
 */
export async function workOf(
  gpu: Gpu,
  options: {
    readonly shape: Shape;
    readonly batch: number;
    readonly length: number;
    readonly policy?: FreezePolicy;
    /** Steps between looks; so many when absent that no look falls into a measurement. */
    readonly lookEvery?: number;
    readonly precision?: Precision;
  },
): Promise<Work> {
  const { shape, batch, length, policy, lookEvery = 1000, precision } = options;
  const model = await newModel(gpu, { source: sourceOf(shape, length), seed: 0 });
  const ids = Int32Array.from({ length: batch * length }, (_, i) => (i * 7919) % shape.vocabulary);
  const inputIds = tensor(ids, [batch, length]);
  const loss = nextTokenLoss(model);
  const training = defineTraining<object, TokenBatch>(gpu, loss, {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 1e-4 })),
    policy,
    steps: 1e6,
    lookEvery,
    precision,
  });
  const state = await training.init(model.params);
  free(model.params);
  const parameters = [...modelParams(model).values()].reduce((n, { shape }) => n + sizeOf(shape), 0);
  return { training, state, batch: { inputIds, labels: inputIds }, loss, parameters };
}

/** Gives all memory of a training back. */
export function closeWork(
  { training, state }: {
    readonly training: Disposable;
    readonly state: Pick<TrainingState<object>, "params" | "leaves">;
  },
): void {
  training[Symbol.dispose]();
  free(state.params);
  free(Object.fromEntries(state.leaves));
}
