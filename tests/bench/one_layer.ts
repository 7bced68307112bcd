/**
 * A network of one layer, small enough to be written in any library, and its training in Firn.
 *
 * Learned positions, RMSNorm, causal attention with heads of 32, GELU MLP of 4 D, tied head,
 * Adam. f32.
 *
 * @module
 */

import {
  adamW,
  add,
  crossEntropy,
  defineTraining,
  embedding,
  type Gpu,
  matmul,
  reshape,
  slice,
  type Tensor,
  tensor,
  type Training,
  type TrainingState,
} from "@firn/train";
import { attention, gelu, rmsNorm } from "@firn/train/ops";
import { normalValues } from "@firn/train/kernels";

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
/** Rate of Adam. */
export const LEARNING_RATE = 1e-3;

/** Numbers and their shape, for any library. */
export interface Weights {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

/** The weights of step 0: matrices normal with deviation 0.02, gains one. */
export function startWeights({ width, time }: OneLayerSize): Readonly<Record<keyof OneLayerParams, Weights>> {
  let stream = 0;
  const normal = (rows: number, columns: number): Weights => ({
    shape: [rows, columns],
    data: normalValues({ size: rows * columns, key: [0, stream++] }).map((x) => 0.02 * x),
  });
  const ones = (): Weights => ({ shape: [width], data: new Float32Array(width).fill(1) });
  return {
    wte: normal(VOCABULARY, width),
    wpe: normal(time, width),
    wqkv: normal(width, 3 * width),
    wo: normal(width, width),
    w1: normal(width, 4 * width),
    w2: normal(4 * width, width),
    g1: ones(),
    g2: ones(),
    gf: ones(),
  };
}

/** The batch of a step, row by row: each id is 5 above the one before it, modulo the vocabulary. */
export function batchOf(
  { time, batch }: OneLayerSize,
  step: number,
): { readonly x: Int32Array<ArrayBuffer>; readonly y: Int32Array<ArrayBuffer> } {
  const x = Int32Array.from({ length: batch * time }, (_, i) => {
    const row = Math.floor(i / time);
    return (7 * step + 31 * row + 5 * (i % time)) % VOCABULARY;
  });
  return { x, y: x.map((id) => (id + 5) % VOCABULARY) };
}

/** Defines its training and the first state. */
export async function oneLayer(gpu: Gpu, size: OneLayerSize): Promise<{
  training: Training<OneLayerParams, OneLayerBatch>;
  state: TrainingState<OneLayerParams>;
}> {
  const { width: d, time, batch } = size;
  const heads = Math.max(1, d / 32);
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
    optimizer: adamW({ learningRate: LEARNING_RATE, weightDecay: 0 }),
    steps: 1e6,
    lookEvery: 1000,
  });
  const params = Object.fromEntries(
    Object.entries(startWeights(size)).map(([name, { shape, data }]) => [name, tensor(data, shape)]),
  ) as OneLayerParams;
  return { training, state: await training.init(params) };
}
