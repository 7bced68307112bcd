/**
 * What reads and writes files does so through the file system that it is given.
 *
 * @module
 */

import { assertEquals, assertRejects } from "@std/assert";
import {
  AlreadyExistsError,
  defineTraining,
  flatten,
  mean,
  multiply,
  NotFoundError,
  openGpu,
  read,
  sgd,
  type Tensor,
  tensor,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import type { LlamaParams } from "@firn/train/models";
import { memoryFileSystem } from "@firn/train/data";
import { loadAdapter, loadModel, newModel, saveAdapter, saveModel } from "@firn/train/hub";
import { explain, openLog, readLog } from "@firn/train/report";
import { loadVariants, saveVariants } from "../../core/tune/tune_cache.ts";
import { llamaSource } from "../train/tiny.ts";

const gpu = await openGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

Deno.test("a model and its adapter are saved to memory and loaded from it", async () => {
  const fileSystem = memoryFileSystem();
  const model = await newModel<LlamaParams>(gpu, { source: llamaSource({ layers: 1, tied: true }), seed: 1 });
  await saveModel(gpu, model, { folder: "model", fileSystem });
  const again = await loadModel<LlamaParams>(gpu, "model", { fileSystem });
  const { weight } = model.params.model.norm;
  assertEquals(await read(gpu, again.params.model.norm.weight), await read(gpu, weight));

  const { q_proj } = model.params.model.layers[0].self_attn;
  const pair = {
    lora_A: { weight: tensor(new Float32Array(64), [2, 32]) },
    lora_B: { weight: tensor(new Float32Array(64), [32, 2]) },
  };
  const layer = model.params.model.layers[0];
  const params = {
    ...model.params,
    model: {
      ...model.params.model,
      layers: { 0: { ...layer, self_attn: { ...layer.self_attn, q_proj: { ...q_proj, ...pair } } } },
    },
  };
  await saveAdapter(gpu, { ...model, params }, { folder: "adapter", fileSystem });
  const adapted = await loadAdapter(gpu, model, "adapter", { fileSystem });
  assertEquals([...flatten(adapted.params).keys()].filter((path) => path.includes("lora")).length, 2);
});

Deno.test("a checkpoint is saved to memory and training goes on from it", async () => {
  const fileSystem = memoryFileSystem();
  const training = defineTraining(gpu, ({ w }: { w: Tensor }) => mean(multiply(w, w)), {
    optimizer: sgd({ learningRate: 0.5 }),
    steps: 2,
  });
  const state = await training.next(await training.init({ w: tensor([2, 4]) }), {});
  await saveCheckpoint(gpu, state, { path: "x", extra: { seed: 7 }, fileSystem });
  const saved = await loadCheckpoint("x", { fileSystem });
  assertEquals(saved.extra, { seed: 7 });
  const last = await training.next(await training.resume(saved), {});
  assertEquals([...await read(gpu, last.params.w)], [0.5, 1]);
  await assertRejects(() => loadCheckpoint("y", { fileSystem }), NotFoundError, '"y"');
});

Deno.test("the log of a run is kept in memory, and cut where a resumed run begins", async () => {
  const fileSystem = memoryFileSystem();
  const log = await openLog("log", { fileSystem });
  const step = {
    kind: "step",
    loss: 1,
    learningRate: 1,
    stepMs: 1,
    launches: 1,
    flops: 1,
    frozen: 0,
    readings: {},
  } as const;
  await log.add([{ kind: "start", config: {}, adapter: "any" }]);
  await log.add([{ ...step, step: 1 }, { ...step, step: 2 }, { kind: "end" }]);
  assertEquals(explain(await readLog("log", { fileSystem })).steps, 2);
  // Another run does not empty it.
  await assertRejects(
    () => openLog("log", { fileSystem }),
    AlreadyExistsError,
    'the log "log" as it must be new',
  );
  assertEquals((await readLog("log", { fileSystem })).length, 4);
  assertEquals((await openLog("log", { upTo: 1, fileSystem })).lines.length, 2);
  assertEquals((await readLog("log", { fileSystem })).length, 2);
});

Deno.test("measured variants are kept in memory, apart for each adapter", async () => {
  const cache = { path: "folder/tune.json", fileSystem: memoryFileSystem() };
  const variant = { kind: "direct", tm: 1, tn: 1, subgroups: false } as const;
  await saveVariants(cache, { adapter: "a", variants: new Map([["1x1x1 NN", variant]]) });
  await saveVariants(cache, { adapter: "b", variants: new Map() });
  assertEquals(await loadVariants(cache, "a"), new Map([["1x1x1 NN", variant]]));
  assertEquals((await loadVariants(cache, "b")).size, 0);
});
