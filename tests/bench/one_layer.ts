/**
 * The one-layer network of the jax-js benchmark, in Firn.
 *
 * Learned positions, RMSNorm without learned shape, causal attention with heads of 32, GELU MLP of 4 D, tied head,
 * Adam. f32.
 *
 * @module
 */

import {
  adamW,
  add,
  attention,
  crossEntropy,
  defineTraining,
  embedding,
  gelu,
  type Gpu,
  matmul,
  reshape,
  rmsNorm,
  slice,
  type Tensor,
  tensor,
  type Training,
  type TrainingState,
} from "@firn/train";

/** Sizes of the network. */
export interface OneLayerSize {
  readonly width: number;
  readonly time: number;
  readonly batch: number;
}

/** Parameters of the network. */
export type OneLayerParams = {
  readonly [name in "wte" | "wpe" | "wqkv" | "wo" | "w1" | "w2" | "g1" | "g2" | "gf"]: Tensor;
};

/** Token ids and the ids to predict, both i32 [B, T]. */
export interface OneLayerBatch {
  readonly x: Tensor;
  readonly y: Tensor;
}

/** Entries of the vocabulary. */
export const VOCABULARY = 256;

/** Defines its training and the first state. */
export async function oneLayer(gpu: Gpu, size: OneLayerSize): Promise<{
  training: Training<OneLayerParams, OneLayerBatch>;
  state: TrainingState<OneLayerParams>;
}> {
  const { width: d, time, batch } = size;
  const heads = Math.max(1, d / 32);
  const random = (...shape: number[]): Tensor =>
    tensor(
      Float32Array.from({
        length: shape.reduce((a, b) => a * b),
      }, (_, i) => 0.035 * Math.sin(i * 12.9898 + shape[0])),
      shape,
    );
  const ones = (): Tensor => tensor(new Float32Array(d).fill(1));
  const params: OneLayerParams = {
    wte: random(VOCABULARY, d),
    wpe: random(time, d),
    wqkv: random(d, 3 * d),
    wo: random(d, d),
    w1: random(d, 4 * d),
    w2: random(4 * d, d),
    g1: ones(),
    g2: ones(),
    gf: ones(),
  };
  const loss = (p: OneLayerParams, { x, y }: OneLayerBatch): Tensor => {
    const rows = (t: Tensor): Tensor => reshape(t, [batch * time, t.shape.at(-1)!]);
    let h = rows(add(embedding(p.wte, x), p.wpe)); // [BT, D]
    const qkv = matmul(rmsNorm(h, p.g1, { eps: 1e-5 }), p.wqkv);
    const [q, k, v] = [0, 1, 2].map((i) =>
      reshape(slice(qkv, { starts: [0, i * d], sizes: [batch * time, d] }), [batch, time, heads, d / heads])
    );
    h = add(h, matmul(rows(reshape(attention(q, { k, v }), [batch, time, d])), p.wo));
    h = add(h, matmul(gelu(matmul(rmsNorm(h, p.g2, { eps: 1e-5 }), p.w1)), p.w2));
    return crossEntropy(matmul(rmsNorm(h, p.gf, { eps: 1e-5 }), p.wte, { transposeB: true }), y);
  };
  const training = defineTraining(gpu, loss, {
    optimizer: adamW({ learningRate: 1e-3, weightDecay: 0 }),
    steps: 1e6,
    lookEvery: 1000,
  });
  return { training, state: await training.init(params) };
}
