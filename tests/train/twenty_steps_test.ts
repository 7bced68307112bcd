/** Twenty steps of a model against PyTorch in float64: whole batches, parts, little memory, packed documents. */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  type Gpu,
  nextTokenLoss,
  tensor,
  type TokenBatch,
  type TrainingOptions,
} from "@firn/train";
import { loadModel } from "@firn/train/hub";
import { openTestGpu } from "../reference/open_gpu.ts";

const FIXTURES = new URL("../fixtures/", import.meta.url);
const expected: readonly number[] = JSON.parse(
  await Deno.readTextFile(new URL("training_losses.json", FIXTURES)),
);
const DOCUMENTS = 4, LENGTH = 8;

const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());
const model = await loadModel(gpu, decodeURIComponent(new URL("llama", FIXTURES).pathname));

/** Some documents of a step, each in a row, or several in one. */
function batchOf(step: number, { first = 0, count = DOCUMENTS, each = 1 } = {}): TokenBatch {
  const ids = Int32Array.from(
    { length: count * LENGTH },
    (_, i) => ((first * LENGTH + i) * 7 + step * 13) % 96,
  );
  const shape = [count / each, each * LENGTH], inputIds = tensor(ids, shape);
  if (each === 1) return { inputIds, labels: inputIds };
  // The first token of a document follows nothing.
  const labels = tensor(ids.map((id, i) => i % LENGTH === 0 ? -100 : id), shape);
  return { inputIds, labels, segments: tensor(ids.map((_, i) => Math.floor(i / LENGTH) % each), shape) };
}

type Options = Partial<TrainingOptions<TokenBatch>>;

function define(options: Options) {
  return defineTraining<object, TokenBatch>(gpu, nextTokenLoss(model), {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 1e-2, weightDecay: 0.01 })),
    steps: expected.length,
    lookEvery: 5,
    ...options,
  });
}

async function assertLosses(
  options: Options,
  batch: (step: number) => TokenBatch | readonly TokenBatch[],
): Promise<number> {
  using training = define(options);
  let state = await training.init(model.params);
  const losses: number[] = [];
  while (!state.done) {
    state = await training.next(state, batch(state.step + 1));
    losses.push(...state.look?.loss ?? []);
  }
  assertEquals(losses.length, expected.length);
  // Measured: 7e-6 within twenty steps, which raise errors of float32.
  losses.forEach((loss, i) => assertAlmostEquals(loss, expected[i], 5e-5, `step ${i + 1}`));
  assert(losses.at(-1)! < losses[0] - 1);
  return training.memory()?.blocks ?? 0;
}

Deno.test("losses of twenty steps are PyTorch's", async () => {
  await assertLosses({}, batchOf);
});

Deno.test("losses of twenty steps are PyTorch's where each step has four parts", async () => {
  await assertLosses(
    { accumulate: 4 },
    (step) => [0, 1, 2, 3].map((first) => batchOf(step, { first, count: 1 })),
  );
});

Deno.test("losses of twenty steps are PyTorch's where values are computed again", async () => {
  using training = define({ memory: 1 });
  const error = await training.init(model.params).then((state) => training.next(state, batchOf(1))).then(
    () => "",
    ({ message }: Error) => message,
  );
  const memory = Number(/set "memory" to (\d+)/.exec(error)![1]);
  assert(await assertLosses({ memory }, batchOf) > 0);
});

Deno.test("losses of twenty steps are PyTorch's where documents share rows", async () => {
  await assertLosses({}, (step) => batchOf(step, { each: 2 }));
});
