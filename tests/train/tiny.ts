/** Models and runs so small that compiling their shaders is most of the work. */

import {
  type AnySignal,
  type Component,
  flatten,
  type FreezePolicy,
  type Gpu,
  type HostData,
  type Json,
  type Look,
  matmul,
  mean,
  multiply,
  type Path,
  readAll,
  subtract,
  type Tensor,
  tensor,
  type TensorTree,
  type TokenBatch,
  type Training,
  type TrainingState,
} from "@firn/train";
import { silu } from "@firn/train/ops";

export { SIGNALS as ALL_SIGNALS } from "../../core/policy.ts";

/** `config.json` of a Llama whose kernels compile in seconds. */
export function llamaSource(
  options: { readonly layers: number; readonly tied: boolean },
): Record<string, unknown> {
  return {
    model_type: "llama",
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: options.layers,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 64,
    max_position_embeddings: 16,
    tie_word_embeddings: options.tied,
  };
}

/** Ids that depend on a seed, as both inputs and labels. */
export function tokenBatch([rows, time]: readonly [number, number], seed = 1): TokenBatch {
  const ids = tensor(Int32Array.from({ length: rows * time }, (_, i) => (i * 7 + seed * 13) % 64), [
    rows,
    time,
  ]);
  return { inputIds: ids, labels: ids };
}

/** Parameters of {@link mlpLoss}. */
export interface Mlp extends TensorTree {
  readonly bottom: { readonly weight: Tensor };
  readonly top: { readonly weight: Tensor };
}

/** A batch of {@link mlpLoss}. */
export interface Pairs extends TensorTree {
  readonly x: Tensor;
  readonly y: Tensor;
}

/** Mean squared error of two matrices with a bend between them. */
export function mlpLoss({ bottom, top }: Mlp, { x, y }: Pairs): Tensor {
  const error = subtract(matmul(silu(matmul(x, bottom.weight)), top.weight), y);
  return mean(multiply(error, error));
}

/** Parameters of {@link mlpLoss}, the same for one seed. */
export function newMlp(seed = 1): Mlp {
  return { bottom: { weight: waves([4, 8], seed) }, top: { weight: waves([8, 4], seed + 1) } };
}

/** Some batches of {@link mlpLoss}. */
export function pairs(count: number, rows = 4): Pairs[] {
  return Array.from(
    { length: count },
    (_, i) => ({ x: waves([rows, 4], 10 + i), y: waves([rows, 4], 50 + i) }),
  );
}

function waves([rows, columns]: readonly [number, number], seed: number): Tensor {
  return tensor(Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(seed * 17 + i * 1.7)), [
    rows,
    columns,
  ]);
}

/** A policy that freezes given components after given steps; what it is at before all of them is nothing. */
export function scheduled(
  schedule: readonly { readonly from: number; readonly frozen: readonly Path[] }[],
  signals: readonly AnySignal[] = [],
): FreezePolicy {
  return {
    name: "scheduled",
    signals,
    init: (_components: readonly Component[]): Json => 0,
    next: (_, look) => look.steps.at(-1)!,
    frozen: (step) => schedule.findLast(({ from }) => (step as number) >= from)?.frozen ?? [],
  };
}

/** Values of a tree by path. */
export async function valuesOf(gpu: Gpu, tree: TensorTree): Promise<Map<Path, HostData>> {
  const leaves = [...flatten(tree)];
  const values = await readAll(gpu, leaves.map(([, t]) => t));
  return new Map(leaves.map(([path], i) => [path, values[i]]));
}

/** Everything that a state holds on the device, as bits: parameters, moments, readings. */
export async function bitsOf<P extends TensorTree>(
  gpu: Gpu,
  state: TrainingState<P>,
): Promise<Record<string, readonly number[]>> {
  const named = [...flatten(state.params), ...state.leaves];
  const values = await readAll(gpu, named.map(([, t]) => t));
  return Object.fromEntries(named.map(([path], i) => [path, bits(values[i])]));
}

/** The bits of 32-bit values: NaN and -0 are themselves. */
export function bits(values: HostData): readonly number[] {
  return [...new Uint32Array(values.buffer, values.byteOffset, values.length)];
}

/** Numbers in 0..1 from a seed: the minimal standard generator of Park and Miller. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => (state = state * 48271 % 2147483647) / 2147483647;
}

/** A look without what differs when a run is repeated: how long its steps and changes took. */
export function untimed(look: Look | null): Omit<Look, "stepMs" | "changeMs"> | null {
  if (look === null) return null;
  const { stepMs: _, changeMs: __, ...rest } = look;
  return rest;
}

/** Steps on from a state to a given one; each step has the batch of its number. */
export async function advance(
  training: Training<Mlp, Pairs>,
  state: TrainingState<Mlp>,
  { to, batches }: { readonly to: number; readonly batches: readonly Pairs[] },
): Promise<TrainingState<Mlp>> {
  let current = state;
  while (current.step < to) current = await training.next(current, batches[current.step]);
  return current;
}
