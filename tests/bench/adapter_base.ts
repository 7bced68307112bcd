/**
 * A Llama with random weights, stored as a loaded one would be, and new pairs of LoRA beside it.
 *
 * @module
 */

import {
  adamW,
  defineTraining,
  flatten,
  type Gpu,
  type Model,
  nextTokenLoss,
  type Path,
  type Precision,
  sizeOf,
  type Tensor,
  tensor,
  type TokenBatch,
  type Training,
  unflatten,
} from "@firn/train";
import { newAdapter, type Storage } from "@firn/train/hub";
import { normalValues } from "@firn/train/kernels";
import { describeModel, families, modelParams } from "@firn/train/models";
import { packValues } from "../../core/data/packed_values.ts";
import { storedIn } from "../../core/huggingface/storage.ts";
import type { HostData } from "../../core/sources.ts";
import { elementBytes } from "../../core/spec.ts";
import { writeValues } from "../../core/runtime/buffers.ts";
import { storageOf } from "../../core/runtime/residents.ts";
import { reserve } from "../../core/runtime/upload.ts";
import { type Shape, SHAPES, sourceOf } from "./shapes.ts";

/** A shape of a base, and whether its head is its embedding. */
export interface BaseShape extends Shape {
  readonly tied: boolean;
}

const shapeOf = (sizes: readonly number[], tied: boolean): BaseShape => {
  const [hidden, mlp, layers, heads, kvHeads, vocabulary] = sizes;
  return { hidden, mlp, layers, heads, kvHeads, vocabulary, tied };
};

/** Sizes of Llamas, as in their `config.json`. */
export const BASES = {
  "smollm2-135m": shapeOf([576, 1536, 30, 9, 3, 49152], true),
  "llama-3.2-1b": shapeOf([2048, 8192, 16, 32, 8, 128256], true),
  "llama-2-7b": shapeOf([4096, 11008, 32, 32, 32, 32000], false),
  "tiny": { ...SHAPES.tiny, tied: true },
} as const satisfies Record<string, BaseShape>;

/** What is trained. */
export interface AdapterWork {
  readonly shape: BaseShape;
  /** How the base is stored. */
  readonly storage: Storage;
  readonly precision: Precision;
  readonly batch: number;
  readonly length: number;
}

/** A model with random weights that are stored as a loaded one would be. Matrices of one shape have the same values. */
export function baseOf(gpu: Gpu, { shape, storage }: Pick<AdapterWork, "shape" | "storage">): Model {
  const source = { ...sourceOf(shape, 4096), tie_word_embeddings: shape.tied };
  const model = describeModel(source, { families, file: "config.json" });
  const codes = new Map<string, HostData>(), params = new Map<Path, Tensor>();
  for (const [path, { shape, init }] of modelParams(model)) {
    const dtype = storedIn(storage, { path, shape, dtype: "BF16" }), key = `${dtype} ${shape} ${init}`;
    if (!codes.has(key)) codes.set(key, valuesOf({ shape, dtype, init }));
    const made = reserve(gpu, { shape, dtype }, path), width = shape.at(-1) ?? 1;
    writeValues(gpu, storageOf(made).buffer, packValues(codes.get(key)!, { dtype, width, name: path }));
    params.set(path, made);
  }
  return { ...model, params: unflatten(params) };
}

/** Values, or words of blocks, which are uploaded as they are. */
function valuesOf(
  { shape, dtype, init }: Pick<Tensor, "shape" | "dtype"> & { readonly init: string },
): HostData {
  const size = sizeOf(shape);
  if (init !== "normal") return new Float32Array(size).fill(init === "ones" ? 1 : 0);
  const some = normalValues({ size: Math.min(size, 2 ** 22), key: [size, 0] }),
    values = new Float32Array(size);
  for (let at = 0; at < size; at += some.length) {
    for (let i = at; i < Math.min(size, at + some.length); i++) values[i] = 0.02 * some[i - at];
  }
  const blocked = dtype === "int8" || dtype === "nf4";
  return blocked ? packValues(values, { dtype, width: shape.at(-1)! }) as HostData : values;
}

/** Training of pairs of LoRA. */
export interface AdapterTraining {
  readonly training: Training<object, TokenBatch>;
  readonly params: object;
  readonly batch: TokenBatch;
  /** Bytes of the base. */
  readonly baseBytes: number;
}

/**
 * Makes a base and training of pairs of rank 16 on all its projections: AdamW, one batch.
 *
 * @param gpu The device
 * @param work What to train
 * @param options Steps, and steps between looks
 * @returns The training
 */
export async function adapterTraining(
  gpu: Gpu,
  { batch, length, precision, ...work }: AdapterWork,
  { steps, lookEvery }: { readonly steps: number; readonly lookEvery: number },
): Promise<AdapterTraining> {
  const base = baseOf(gpu, work);
  const baseBytes = [...flatten(base.params).values()].reduce((sum, t) => sum + elementBytes(t), 0);
  const model = await newAdapter(gpu, base, { rank: 16, targets: "all-linear", seed: 1 });
  // The same ids in the twin.
  const ids = Int32Array.from({ length: batch * length }, (_, i) => i * 7919 % work.shape.vocabulary);
  const inputIds = tensor(ids, [batch, length]);
  const training = defineTraining<object, TokenBatch>(gpu, nextTokenLoss(model), {
    optimizer: adamW({ learningRate: 1e-4 }),
    steps,
    lookEvery,
    precision,
  });
  return { training, params: model.params, batch: { inputIds, labels: inputIds }, baseBytes };
}
