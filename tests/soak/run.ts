/**
 * A long training of a tiny model, with all that happens between steps.
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  evaluate,
  freeState,
  type FreezePolicy,
  type Gpu,
  type Model,
  nextTokenLoss,
  read,
  scan,
  snapshot,
  type TensorTree,
  type TokenBatch,
  type Training,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { generate } from "@firn/train/infer";
import { newModel } from "@firn/train/hub";
import { getHeapSpaceStatistics } from "node:v8";
import { tokenWindows } from "@firn/train/data";
import { llamaSource } from "../train/tiny.ts";
import { aliveBuffers } from "./alive_buffers.ts";
import type { Sample } from "./flat.ts";

/** Steps between two samples, and between two stops, after which a checkpoint is read and the training goes on from it. */
export const SAMPLE_EVERY = 100, STOP_EVERY = 200;

/** Names of the spaces of V8's heap that hold compiled code. */
const CODE = /code|trusted/;

/** What is frozen in each quarter of the steps between two samples. At a sample, nothing is. */
const FROZEN: readonly (readonly string[])[] = [
  [],
  ["model.layers.0.mlp.up_proj"],
  ["model.embed_tokens", "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.up_proj"],
  ["model.layers.1.mlp.down_proj"],
];

const POLICY: FreezePolicy = {
  name: "by turns",
  signals: ["gradNorm", "gradDelta"],
  init: () => 0,
  next: (_, look) => look.steps.at(-1)!,
  frozen: (step) => FROZEN[Math.floor((step as number) % SAMPLE_EVERY / (SAMPLE_EVERY / 4))],
};

/** Options of {@link soak}. */
export interface SoakOptions {
  readonly steps: number;
  /** An existing folder for checkpoints. */
  readonly folder: string;
  /** Collects garbage. */
  readonly collect: () => void;
}

/**
 * Trains, and between steps freezes, thaws, validates, evaluates, generates, reads, copies, saves and goes on from what was
 * saved.
 *
 * @param gpu The device
 * @param options How long, and where checkpoints go
 * @returns A sample every 100 steps
 */
export async function* soak(
  gpu: Gpu,
  { steps, folder, collect }: SoakOptions,
): AsyncGenerator<Sample, void, undefined> {
  using alive = aliveBuffers(gpu.device);
  const model = await newModel(gpu, { source: llamaSource({ layers: 2, tied: true }), seed: 1 });
  const ids = Int32Array.from({ length: 4000 }, (_, i) => (i * 7 + (i >> 3)) % 64);
  const windows = tokenWindows(ids, { length: 8, batch: 2, seed: 1 }), held = windows.all().slice(0, 4);
  const path = `${folder}/last`;
  let training = define(gpu, { model, steps, held }), state = await training.init(model.params);
  while (!state.done) {
    for await (state of scan(training, state, windows.from(state.step + 1))) {
      if (state.step % SAMPLE_EVERY !== 0) continue;
      await between(gpu, { model: { ...model, params: state.params }, held, seed: state.step });
      if (state.loss !== null) await read(gpu, state.loss);
      freeState(snapshot(gpu, state));
      if (!state.done) await saveCheckpoint(gpu, state, { path });
      yield await sampleOf(gpu, { step: state.step, alive: alive.count, collect });
      if (state.step % STOP_EVERY === 0) break;
    }
    if (state.done) break;
    training[Symbol.dispose]();
    freeState(state);
    training = define(gpu, { model, steps, held });
    state = await training.resume(await loadCheckpoint(path));
  }
  training[Symbol.dispose]();
  freeState(state);
}

function define(
  gpu: Gpu,
  { model, steps, held }: {
    readonly model: Model;
    readonly steps: number;
    readonly held: readonly TokenBatch[];
  },
): Training<TensorTree, TokenBatch> {
  return defineTraining<TensorTree, TokenBatch>(gpu, nextTokenLoss(model), {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 1e-3 })),
    steps,
    lookEvery: 5,
    policy: POLICY,
    validation: { batches: held, every: 50 },
  });
}

async function between(
  gpu: Gpu,
  { model, held, seed }: {
    readonly model: Model;
    readonly held: readonly TokenBatch[];
    readonly seed: number;
  },
): Promise<void> {
  await evaluate(gpu, { loss: nextTokenLoss(model), params: model.params, batches: held });
  for await (const _ of generate(gpu, model, { prompt: [1, 2], maxTokens: 6, temperature: 1, seed }));
}

async function sampleOf(
  gpu: Gpu,
  { step, alive, collect }: {
    readonly step: number;
    readonly alive: () => number;
    readonly collect: () => void;
  },
): Promise<Sample> {
  // What finalizers free is collected in a second round.
  for (let round = 0; round < 2; round++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  const { external, rss } = Deno.memoryUsage(), spaces = getHeapSpaceStatistics();
  const used = (kind: RegExp): number =>
    spaces.reduce((n, { space_name: name, space_used_size: bytes }) => n + (kind.test(name) ? bytes : 0), 0);
  const code = used(CODE), objects = used(/./) - code;
  const handles = await openFiles();
  return { step, objects, code, external, rss, buffers: alive(), device: gpu.counts.bytes, handles };
}

/** How often open files are counted: a driver may open some for a moment, and what stays is in each count. */
const COUNTS = 5;

/** The least of some counts of open files. */
async function openFiles(): Promise<number> {
  const counts: number[] = [];
  for (let i = 0; i < COUNTS; i++) counts.push(await openFilesNow());
  return Math.min(...counts);
}

/** Deno reads /proc only where everything is allowed; a shell may. The pipe to it counts each time. */
async function openFilesNow(): Promise<number> {
  const { stdout } = await new Deno.Command("sh", { args: ["-c", `ls /proc/${Deno.pid}/fd | wc -l`] })
    .output();
  return Number(new TextDecoder().decode(stdout));
}
