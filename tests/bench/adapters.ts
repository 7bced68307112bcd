/**
 * A training step of LoRA pairs beside a frozen base in few bytes, beside PyTorch and PEFT.
 *
 * ```sh
 * deno run -A tests/bench/adapters.ts [WORK...] [--gpu dawn] > firn.jsonl
 * python3 tests/bench/adapters_twin.py > torch.jsonl
 * ```
 *
 * Weights are random. Rank 16 on all projections, AdamW, one batch. A line of JSON a work: milliseconds of a step (after
 * {@link WARM_UP} steps), peak memory of all buffers, bytes of the base, the first and the last loss. Names of works may follow.
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
  scan,
  sizeOf,
  type Tensor,
  tensor,
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
import { readFlags, runMain, type Values } from "../../examples/flags.ts";
import { GPU_FLAGS, openDevice } from "../../examples/gpu.ts";
import { partArgs } from "../../examples/prompting.ts";
import { print } from "../../examples/print.ts";

const WARM_UP = 5, STEPS = 15;

/** Sizes of Llamas, as in their `config.json`. */
const SHAPES = {
  "smollm2-135m": [576, 1536, 30, 9, 3, 49152, true],
  "llama-3.2-1b": [2048, 8192, 16, 32, 8, 128256, true],
  "llama-2-7b": [4096, 11008, 32, 32, 32, 32000, false],
} as const;

interface Work {
  readonly shape: keyof typeof SHAPES;
  readonly storage: Storage;
  readonly precision: Precision;
  readonly batch: number;
  readonly length: number;
}

/** The works that PyTorch does, too; its twin has the same list. */
const WORKS: Readonly<Record<string, Work>> = {
  "135m-f32": { shape: "smollm2-135m", storage: "f32", precision: "f32", batch: 8, length: 512 },
  "135m-int8": { shape: "smollm2-135m", storage: "int8", precision: "f32", batch: 8, length: 512 },
  "1b-bf16": { shape: "llama-3.2-1b", storage: "file", precision: "f32", batch: 4, length: 1024 },
  "1b-bf16-f16": { shape: "llama-3.2-1b", storage: "file", precision: "f16", batch: 4, length: 1024 },
  "1b-nf4": { shape: "llama-3.2-1b", storage: "nf4", precision: "f32", batch: 4, length: 1024 },
  "7b-nf4-f16": { shape: "llama-2-7b", storage: "nf4", precision: "f16", batch: 1, length: 1024 },
};

/** A model with random weights that are stored as a loaded one would be. Matrices of one shape have the same values. */
function baseOf(gpu: Gpu, { shape, storage }: Work): Model {
  const [hidden, mlp, layers, heads, kvHeads, vocabulary, tied] = SHAPES[shape];
  const source = {
    model_type: "llama",
    hidden_size: hidden,
    intermediate_size: mlp,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    vocab_size: vocabulary,
    max_position_embeddings: 4096,
    tie_word_embeddings: tied,
  };
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

async function measure(name: string, work: Work, flags: Values<typeof GPU_FLAGS>): Promise<void> {
  await using gpu = await openDevice({ ...flags, precision: work.precision }, { to: Deno.stderr });
  const began = performance.now(), base = baseOf(gpu, work);
  const baseBytes = [...flatten(base.params).values()].reduce((sum, t) => sum + elementBytes(t), 0);
  const model = await newAdapter(gpu, base, { rank: 16, targets: "all-linear", seed: 1 });
  const { batch, length, precision } = work, [, , , , , vocabulary] = SHAPES[work.shape];
  // The same ids in the twin.
  const ids = tensor(Int32Array.from({ length: batch * length }, (_, i) => i * 7919 % vocabulary), [
    batch,
    length,
  ]);
  using training = defineTraining(gpu, nextTokenLoss(model), {
    optimizer: adamW({ learningRate: 1e-4 }),
    steps: STEPS,
    lookEvery: WARM_UP,
    precision,
  });
  let steady = 0;
  const losses: number[] = [];
  for await (
    const state of scan(
      training,
      await training.init(model.params),
      Array(STEPS).fill({ inputIds: ids, labels: ids }),
    )
  ) {
    losses.push(...state.look?.loss ?? []);
    if (state.step === WARM_UP) steady = performance.now();
    if (state.step < STEPS) continue;
    const ms = (performance.now() - steady) / (STEPS - WARM_UP),
      MiB = (bytes: number) => Math.round(bytes / 2 ** 20);
    print(JSON.stringify({
      name,
      ms,
      MiB: MiB(gpu.counts.peakBytes),
      baseMiB: MiB(baseBytes),
      intermediateMiB: MiB(state.cost!.memory),
      launches: state.cost!.launches,
      loss: [losses[0], losses.at(-1)],
      startSeconds: (steady - began) / 1000,
    }));
  }
}

async function main(): Promise<void> {
  const { words, flags: rest } = partArgs(Deno.args), { values: flags } = readFlags(rest, GPU_FLAGS);
  for (const [name, work] of Object.entries(WORKS)) {
    if (words.length === 0 || words.includes(name)) await measure(name, work, flags);
  }
}

if (import.meta.main) await runMain(main, "adapters");
