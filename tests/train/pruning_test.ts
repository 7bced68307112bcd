import { assert, assertEquals } from "@std/assert";
import {
  adamW,
  type Cost,
  defineTraining,
  flatten,
  grad,
  nextTokenLoss,
  type Path,
  readAll,
  type Tensor,
  type Training,
  type TrainingState,
} from "@firn/train";
import { newModel } from "@firn/train/hub";
import type { LlamaParams, Model, TokenBatch } from "@firn/train/models";
import { backwardOf } from "./llama_cost.ts";
import { bits, llamaSource, randomFrom, scheduled, tokenBatch, valuesOf } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const opened = await openTestGpu();
Deno.test.afterAll(async () => await opened[Symbol.asyncDispose]());
/** Binds so little that each parameter has an update of its own, which can be counted. */
const gpu = { ...opened, target: { ...opened.target, maxBindings: 8 } };

const LAYERS = 4;
const batch = tokenBatch([2, 8]);
const sizes = {
  layers: LAYERS,
  batch: 2,
  time: 8,
  width: 32,
  inner: 64,
  heads: 4,
  kvHeads: 2,
  dim: 8,
  vocab: 64,
};

/** Frozen sets by name, as tests of the path of a component. */
const FROZEN: Readonly<Record<string, RegExp>> = {
  "one weight in the middle": /^model\.layers\.2\.mlp\.up_proj$/,
  "the bottom half, embedding and norms included": /embed_tokens|layers\.[01]\./,
  "everything but the top layer, the last norm and the head": /embed_tokens|layers\.[012]\./,
  "all queries and keys": /[qk]_proj$/,
  "all below the MLP of layer 2": /embed_tokens|layers\.[01]\.|layers\.2\.(self_attn|.*layernorm)/,
  "all below layer 2, and there all of attention but the values":
    /embed_tokens|layers\.[01]\.|layers\.2\.(self_attn\.[qko]_proj|input_layernorm)/,
};

interface Subject {
  readonly model: Model<LlamaParams>;
  readonly training: Training<LlamaParams, TokenBatch>;
  readonly paths: readonly Path[];
}

const subjects = new Map<boolean, Promise<Subject>>();
/** A model and its training after one step: components are known from then on. */
function subject(tied: boolean): Promise<Subject> {
  if (!subjects.has(tied)) subjects.set(tied, makeSubject(tied));
  return subjects.get(tied)!;
}

async function makeSubject(tied: boolean): Promise<Subject> {
  const model = await newModel<LlamaParams>(gpu, { source: llamaSource({ layers: LAYERS, tied }), seed: 3 });
  const training = defineTraining(gpu, nextTokenLoss(model), {
    optimizer: adamW({ learningRate: 0.01 }),
    steps: 3,
  });
  await training.next(await training.init(model.params), batch);
  return { model, training, paths: training.components().map(({ path }) => path) };
}

for (const tied of [false, true]) {
  for (const [name, pattern] of Object.entries(FROZEN)) {
    Deno.test(`costOf drops exactly the products and kernels of ${name}, ${tied ? "tied" : "untied"}`, async () => {
      const { training, paths } = await subject(tied);
      const frozen = paths.filter((path) => pattern.test(path));
      const full = training.costOf([]), pruned = training.costOf(frozen);
      const all = backwardOf(() => true, { ...sizes, tied });
      const left = backwardOf((path) => !pattern.test(path), { ...sizes, tied });
      assertEquals(full.matmulFlops, all.forwardFlops + all.flops);
      assertEquals(pruned.matmulFlops, left.forwardFlops + left.flops);
      assertEquals(full.launches - pruned.launches, all.launches - left.launches);
      assert(left.launches < all.launches);
      assertShrunk(full, pruned);
    });
  }
}

for (const tied of [false, true]) {
  Deno.test(`costOf agrees with the model of cost on 40 random frozen sets, ${tied ? "tied" : "untied"}`, async () => {
    const { training, paths } = await subject(tied);
    const random = randomFrom(7);
    const full = training.costOf([]), all = backwardOf(() => true, { ...sizes, tied });
    for (let i = 0; i < 40; i++) {
      const share = random();
      const frozen = paths.filter((_, at) => at === i % paths.length || random() < share);
      if (frozen.length === paths.length) continue;
      const pruned = training.costOf(frozen);
      const left = backwardOf((path) => !frozen.includes(path), { ...sizes, tied });
      const seen = [pruned.matmulFlops, full.launches - pruned.launches];
      const expected = [left.forwardFlops + left.flops, all.launches - left.launches];
      assertEquals(seen, expected, `with ${frozen.join(", ")} frozen`);
      assertShrunk(full, pruned);
    }
  });
}

function assertShrunk(full: Cost, pruned: Cost): void {
  assert(pruned.memory <= full.memory, `memory grew from ${full.memory} to ${pruned.memory}`);
  assert(pruned.bytes < full.bytes, `traffic grew from ${full.bytes} to ${pruned.bytes}`);
}

Deno.test("costOf freezes one weight in the middle for one product of three", async () => {
  const { training } = await subject(false);
  const full = training.costOf([]), pruned = training.costOf(["model.layers.2.mlp.up_proj"]);
  assertEquals(full.matmulFlops - pruned.matmulFlops, 2 * 16 * 32 * 64);
  assertEquals(full.launches - pruned.launches, 2, "its product and its update");
});

Deno.test("costOf needs neither queries nor keys for the values of the lowest active layer", async () => {
  const { training, paths } = await subject(false);
  const mlpOnly = paths.filter((path) => FROZEN["all below the MLP of layer 2"].test(path));
  const values = "model.layers.2.self_attn.v_proj";
  const before = training.costOf(mlpOnly), after = training.costOf(mlpOnly.filter((path) => path !== values));
  const rows = 16, pairs = 2 * 4 * 8 * 9 / 2;
  // Through gate and up, through the output map, dV with its scores, and the product for the weight.
  const products = [2 * 2 * rows * 64 * 32, 2 * rows * 32 * 32, 4 * 8 * pairs, 2 * rows * 16 * 32];
  assertEquals(after.matmulFlops - before.matmulFlops, products.reduce((a, b) => a + b));
  // These five, adding up query heads, the norm's kernel, the update.
  assertEquals(after.launches - before.launches, 5 + 3);
});

for (const tied of [false, true]) {
  for (const [name, pattern] of Object.entries(FROZEN)) {
    Deno.test(`grad gives the same bits without ${name}, ${tied ? "tied" : "untied"}`, async () => {
      const { model } = await subject(tied);
      const active = [...flatten(model.params)].filter(([path]) =>
        !pattern.test(path.replace(/\.weight$/, ""))
      );
      const pruned = await gradients(model, active.map(([, leaf]) => leaf));
      const full = await fullGradients(model);
      assertEquals(active.filter(([path], i) => !same(pruned[i], full.get(path)!)).map(([path]) => path), []);
    });
  }
}

async function gradients(model: Model<LlamaParams>, wanted: readonly Tensor[]): Promise<number[][]> {
  const loss = nextTokenLoss(model)(model.params, batch);
  return (await readAll(gpu, grad(loss, wanted))).map((values) => [...bits(values)]);
}

const known = new Map<Model<LlamaParams>, Promise<Map<Path, number[]>>>();
function fullGradients(model: Model<LlamaParams>): Promise<Map<Path, number[]>> {
  const leaves = [...flatten(model.params)];
  const all = (): Promise<Map<Path, number[]>> =>
    gradients(model, leaves.map(([, leaf]) => leaf)).then((values) =>
      new Map(leaves.map(([path], i) => [path, values[i]]))
    );
  if (!known.has(model)) known.set(model, all());
  return known.get(model)!;
}

function same(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((x, i) => Object.is(x, b[i]));
}

for (const [name, pattern] of Object.entries(FROZEN)) {
  Deno.test(`next moves active weights by the same bits without ${name}`, async () => {
    const { model, paths } = await subject(false);
    const frozen = paths.filter((path) => pattern.test(path));
    const free = await two(model, []), pruned = await two(model, frozen);
    assertEquals(pruned.frozen.length, frozen.length);
    const expected = await valuesOf(gpu, free.params), seen = await valuesOf(gpu, pruned.params);
    const different = [...seen].filter(([path, v]) => !same(bits(v), bits(expected.get(path)!))).map((
      [path],
    ) => path);
    assertEquals(different, frozen.map((path) => `${path}.weight`));
  });
}

/** Two steps, the second without the frozen components. */
async function two(model: Model<LlamaParams>, frozen: readonly Path[]): Promise<TrainingState<LlamaParams>> {
  const training = defineTraining<LlamaParams, TokenBatch>(gpu, nextTokenLoss(model), {
    optimizer: adamW({ learningRate: 0.01 }),
    steps: 2,
    policy: scheduled([{ from: 1, frozen }]),
    lookEvery: 1,
  });
  let state = await training.init(model.params);
  for (let i = 0; i < 2; i++) state = await training.next(state, batch);
  return state;
}
