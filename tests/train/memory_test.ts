/** Training within a limit of memory: what its backward pass computes again. */

import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import {
  adamW,
  add,
  chain,
  clipByGlobalNorm,
  defineTraining,
  dropout,
  type FreezePolicy,
  type Gpu,
  InputError,
  leaf,
  matmul,
  mean,
  multiply,
  nextTokenLoss,
  sizeOf,
  type Tensor,
  tensor,
  type TensorTree,
  type Training,
  type TrainingOptions,
  type TrainingState,
  unflatten,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { silu } from "@firn/train/ops";
import { newModel } from "@firn/train/hub";
import { memoryFileSystem } from "@firn/train/data";
import { describeModel, families, type LlamaParams, modelParams, type TokenBatch } from "@firn/train/models";
import { memoryText } from "@firn/train/report";
import { plan } from "../../core/plan/plan.ts";
import type { Plan } from "../../core/plan/types.ts";
import { traceStep } from "../../core/train/step/trace.ts";
import { allocationsOn, plannedOf } from "../bench/allocated.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { bitsOf, llamaSource, scheduled, tokenBatch } from "./tiny.ts";

const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 3, LAYERS = 4;
const model = await newModel<LlamaParams>(gpu, {
  source: llamaSource({ layers: LAYERS, tied: true }),
  seed: 1,
});
const batch = (step: number): TokenBatch => tokenBatch([8, 16], step);

const plainLoss = nextTokenLoss(model);
type Options = Partial<TrainingOptions<TokenBatch>>;
const define = (options: Options = {}, loss = plainLoss): Training<LlamaParams, TokenBatch> =>
  defineTraining<LlamaParams, TokenBatch>(gpu, loss, {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 0.01 })),
    steps: STEPS,
    lookEvery: 1,
    ...options,
  });

async function run(
  training: Training<LlamaParams, TokenBatch>,
  { parts = 1 }: { readonly parts?: number } = {},
): Promise<TrainingState<LlamaParams>> {
  let state = await training.init(model.params);
  while (!state.done) {
    const own = Array.from({ length: parts }, (_, i) => batch(state.step * parts + i + 1));
    state = await training.next(state, parts === 1 ? own[0] : own);
  }
  return state;
}

/** The least bytes that a training works with, from its error. */
async function leastOf(
  options: Options = {},
  { parts = 1, loss }: { readonly parts?: number; readonly loss?: typeof plainLoss } = {},
): Promise<number> {
  using training = define({ ...options, memory: 1 }, loss);
  const error = await assertRejects(
    () => run(training, { parts }),
    InputError,
    "bytes of memory as a step takes",
  );
  return Number(/set "memory" to (\d+)/.exec(error.message)![1]);
}

/** Names of all components. */
async function componentsOf(): Promise<string[]> {
  using training = define({ steps: 1 });
  await run(training);
  return training.components().map(({ path }) => path);
}

const freezing: FreezePolicy = scheduled(
  [{ from: 1, frozen: ["model.embed_tokens", "model.layers.0.self_attn.q_proj"] }],
  ["gradNorm"],
);
const SETTINGS: readonly { readonly name: string; readonly options: Options; readonly parts?: number }[] = [
  { name: "a plain step", options: {} },
  { name: "a step of parts", options: { accumulate: 2 }, parts: 2 },
  {
    name: "freezing, with a cached prefix and states to go back to",
    options: {
      policy: freezing,
      cachePrefix: { bytes: 4096 },
      nonFinite: "rollback",
    },
  },
];
for (const { name, options, parts = 1 } of SETTINGS) {
  Deno.test(`training in the least memory gives the same bits: ${name}`, async () => {
    const least = await leastOf(options, { parts });
    using free = define(options);
    using tight = define({ ...options, memory: least });
    const [a, b] = [await run(free, { parts }), await run(tight, { parts })];
    assertEquals(await bitsOf(gpu, b), await bitsOf(gpu, a));
    const { budget, bytes, bytesWithout, blocks, of, operations } = tight.memory()!;
    assertEquals([budget, of >= 2 * LAYERS - 1], [least, true]);
    assert(bytes <= least && bytes < bytesWithout && blocks > 0 && operations > 1 && operations < 1.5);
    assert(b.cost!.memory < 0.8 * a.cost!.memory, `${b.cost!.memory} of ${a.cost!.memory} bytes`);
    assertEquals(free.memory(), null);
  });
}

Deno.test("a run in little memory goes on from a checkpoint of one without a limit, with noise on embeddings", async () => {
  const noisy = nextTokenLoss(model, { neftune: 5, seed: 3 });
  const fileSystem = memoryFileSystem(), path = "run.safetensors";
  using free = define({}, noisy);
  const first = await free.next(await free.init(model.params), batch(1));
  await saveCheckpoint(gpu, first, { path, fileSystem });
  let a = first;
  while (!a.done) a = await free.next(a, batch(a.step + 1));
  using tight = define({ memory: await leastOf({}, { loss: noisy }) }, noisy);
  let b = await tight.resume(await loadCheckpoint(path, { fileSystem }));
  while (!b.done) b = await tight.next(b, batch(b.step + 1));
  assertEquals(await bitsOf(gpu, b), await bitsOf(gpu, a));
});

Deno.test("a run whose policy announces a thaw that does not fit ends only where that comes", async () => {
  const layers = [0, 1, 2].map((i) => `model.layers.${i}`);
  const paths = (await componentsOf()).filter((path) => layers.some((name) => path.startsWith(name)));
  const policy: FreezePolicy = scheduled([{ from: 0, frozen: ["model.embed_tokens", ...paths] }]);
  const memory = await leastOf({ policy });
  using training = define({ policy: { ...policy, coming: () => [] }, memory });
  assertEquals((await run(training)).step, STEPS);
});

for (const accumulate of [1, 2]) {
  Deno.test(`a step in little memory allocates what it planned: batches a step: ${accumulate}`, async () => {
    const least = await leastOf({ accumulate }, { parts: accumulate });
    using training = define({ accumulate, memory: least });
    const allocations = allocationsOn(gpu);
    const state = await allocations.during(async () => {
      const begun = await training.init(model.params);
      return await training.next(begun, accumulate === 1 ? batch(1) : [batch(1), batch(2)]);
    });
    const { planned, held } = allocations.memory(plannedOf(state, batch(1)));
    assertEquals(training.memory()!.bytes, planned);
    assertEquals(held, planned);
  });
}

Deno.test("memory has the weights of the best step, which a policy may end with", async () => {
  using training = define({ policy: { ...scheduled([]), best: () => 1 }, memory: "1 GiB" });
  const allocations = allocationsOn(gpu);
  const state = await allocations.during(async () =>
    await training.next(await training.init(model.params), batch(1))
  );
  const { planned, held } = allocations.memory(plannedOf(state, batch(1)));
  assert([...state.leaves.keys()].some((path) => path.startsWith("best.")));
  assertEquals([training.memory()!.bytes, held], [planned, planned]);
});

Deno.test("training computes no more again than its memory asks for", async () => {
  const least = await leastOf();
  const chosen: [number, number][] = [];
  for (const memory of [least, least + 40_000, 2 ** 30]) {
    using training = define({ memory });
    await training.next(await training.init(model.params), batch(1));
    const { blocks, bytes } = training.memory()!;
    assert(bytes <= memory);
    chosen.push([blocks, bytes]);
  }
  assert(chosen[0][0] > chosen[1][0] && chosen[1][0] > 0, `${chosen}`);
  assertEquals(chosen[2][0], 0);
});

Deno.test("training takes memory as bytes and with a unit, and refuses anything else", async () => {
  for (const memory of [2 ** 30, "1073741824", "1 GiB", "1gib", "1.0GiB", "1024 MiB", "1073741.824 KB"]) {
    using training = define({ memory });
    await training.next(await training.init(model.params), batch(1));
    assertEquals(training.memory()!.budget, 2 ** 30, `${memory}`);
  }
  for (const memory of ["8 gigs", "", "GiB", "-1 GiB", 0, 0.5, NaN, "1 GiB 2"]) {
    const error = assertThrows(() => define({ memory }), InputError);
    assertMatch(error.message, /"memory" must be a number of bytes, or one with a unit, such as "8 GiB"/);
  }
});

/** Plans a step of a model of eight layers that no device has. */
function deepPlan(
  source: Record<string, unknown>,
  options: {
    readonly blocks: number;
    readonly precision?: "f32" | "f16";
    readonly wide?: boolean;
    readonly frozen?: number;
    readonly time?: number;
    readonly maxBindings?: number;
  },
): Plan {
  const { time = 512, maxBindings = 32 } = options;
  const described = describeModel(source, { families, file: "config.json" });
  const leaves = new Map(
    [...modelParams(described)].map(([path, { shape }]) => [path, leaf(path, { shape, dtype: "f32" })]),
  );
  const ids = (name: string): Tensor => leaf(`batch.${name}`, { shape: [8, time], dtype: "i32" });
  const inputs: TokenBatch = { inputIds: ids("inputIds"), labels: ids("labels") };
  const params = unflatten(leaves) as TensorTree as LlamaParams;
  const loss = nextTokenLoss({ ...described, params })(params, inputs);
  const { precision = "f32", wide, blocks, frozen = 0 } = options;
  const active = new Map([...leaves].slice(frozen)), optimizer = adamW({ learningRate: 1e-4 });
  const graph = traceStep({
    loss,
    active,
    trainable: [...leaves.keys()],
    optimizer,
    signals: [],
    ring: [10, 2],
    precision,
  });
  return plan(graph.roots, {
    target: { software: false, subgroups: true, workgroupBytes: 49152, maxBindings },
    updates: graph.updates,
    precision,
    wide,
    recompute: { loss: graph.loss, blocks, isBatch: (path) => path.startsWith("batch.") },
  });
}

const llama = {
  ...llamaSource({ layers: 8, tied: true }),
  hidden_size: 128,
  intermediate_size: 384,
  max_position_embeddings: 512,
};
const DEEP: Readonly<Record<string, Record<string, unknown>>> = {
  llama,
  qwen3: { ...llama, model_type: "qwen3", head_dim: 32 },
  gpt2: { model_type: "gpt2", n_embd: 128, n_layer: 8, n_head: 4, vocab_size: 64, n_positions: 512 },
};
for (const [name, source] of Object.entries(DEEP)) {
  for (const precision of ["f32", "f16"] as const) {
    Deno.test(`values of a step take a third when all of its blocks are computed again: ${name}, ${precision}`, () => {
      const [none, half, all] = [0, 8, 100].map((blocks) => deepPlan(source, { blocks, precision }));
      assertEquals([none.recomputed!.blocks, all.recomputed!.blocks], [0, none.recomputed!.of]);
      assert(none.recomputed!.of >= 15, `${none.recomputed!.of} blocks`);
      const [full, some, least] = [none, half, all].map(({ cost }) => cost.memory);
      assert(least < 0.36 * full, `${least / full} of the bytes`);
      assert(least < some && some < 0.75 * full, `${some / full} of the bytes with half of the blocks`);
      // A forward pass is a third of the step.
      assertAlmostEquals(all.cost.matmulFlops / none.cost.matmulFlops, 1.25, 0.09);
    });
  }
}

Deno.test("a plan that computes values again shares no launches that take much more memory", () => {
  const source = { ...llama, intermediate_size: 256, max_position_embeddings: 256 };
  const [none, some] = [0, 2].map((blocks) =>
    deepPlan(source, { blocks, precision: "f16", time: 256, maxBindings: 16 })
  );
  assert(some.cost.memory < 0.8 * none.cost.memory, `${some.cost.memory / none.cost.memory} of the bytes`);
});

Deno.test("what lies below all that is trained is not computed again", () => {
  const of = [0, 9, 36].map((frozen) => deepPlan(llama, { blocks: 0, frozen }).recomputed!.of);
  assert(of[0] >= 15 && of[2] < of[0] - 6, `${of}`);
});

Deno.test("values that may be too large for f16 stay f32 where they are computed again", () => {
  const kinds = (wide: boolean): number =>
    deepPlan(llama, { blocks: 100, precision: "f16", wide }).launches
      .filter(({ kernel }) => /^recompute/.test(kernel.name) && /f16/.test(kernel.code)).length;
  assert(kinds(false) > 8, `${kinds(false)} copies as f16`);
  assertEquals(kinds(true), 0);
});

Deno.test("what is computed again drops the values that were dropped before", async () => {
  const LAYERS = 6, WIDTH = 16, ROWS = 1024;
  type Weights = Record<string, Tensor>;
  const wave = (shape: readonly number[], seed: number): Tensor =>
    tensor(Float32Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(seed * 17 + i * 1.7)), shape);
  const weights: Weights = Object.fromEntries(
    Array.from({ length: LAYERS + 1 }, (_, i) => [`w${i}`, wave([WIDTH, WIDTH], i)]),
  );
  const loss = (w: Weights, { x }: { readonly x: Tensor }): Tensor => {
    let y = matmul(x, w.w0);
    for (let i = 1; i <= LAYERS; i++) {
      y = add(y, dropout(matmul(silu(matmul(y, w[`w${i}`])), w[`w${i}`]), { rate: 0.5, seed: 1, stream: i }));
    }
    return mean(multiply(matmul(y, w.w0), y));
  };
  const train = async (
    memory: number | undefined,
  ): Promise<{ bits: unknown; blocks: number | undefined }> => {
    using training = defineTraining(gpu, loss, {
      optimizer: adamW({ learningRate: 0.01 }),
      steps: 2,
      memory,
    });
    let state = await training.init(weights);
    while (!state.done) state = await training.next(state, { x: wave([ROWS, WIDTH], state.step + 50) });
    return { bits: await bitsOf(gpu, state), blocks: training.memory()?.blocks };
  };
  const error = await assertRejects(() => train(1), InputError);
  const tight = await train(Number(/set "memory" to (\d+)/.exec(error.message)![1])),
    free = await train(undefined);
  assertEquals(tight.bits, free.bits);
  assert(tight.blocks! > 1, `${tight.blocks} blocks`);
});

Deno.test("the choice is told in words", () => {
  const choice = {
    budget: 2 ** 33,
    bytes: 2 ** 32,
    bytesWithout: 2 ** 34,
    blocks: 12,
    of: 24,
    operations: 1.091,
  };
  assertEquals(
    memoryText(choice),
    "4.00 GiB of 8.00 GiB, not 16.00 GiB: the backward pass computes 12 of 24 blocks again, +9 % operations",
  );
  assertEquals(memoryText({ ...choice, blocks: 0 }), "4.00 GiB of 8.00 GiB, nothing is computed again");
});
