/** Batches weigh as much as they have labels, and a loss says what is trained. */

import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  countLabels,
  crossEntropy,
  defineTraining,
  evaluate,
  InputError,
  type Loss,
  matmul,
  nextTokenLoss,
  NonFiniteError,
  read,
  type RunSettings,
  type SavedState,
  sgd,
  type Tensor,
  tensor,
  type TrainingOptions,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { newModel } from "@firn/train/hub";
import { memoryFileSystem } from "@firn/train/data";
import { llamaSource, tokenBatch } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

type Params = { readonly base: Tensor; readonly top: Tensor };
type Batch = { readonly x: Tensor; readonly labels: Tensor };

const plain = ({ base, top }: Params, { x, labels }: Batch): Tensor =>
  crossEntropy(matmul(matmul(x, base), top), labels);
const loss: Loss<Params, Batch> = Object.assign(
  (params: Params, batch: Batch): Tensor => plain(params, batch),
  { count: ({ labels }: Batch): number => countLabels(labels) },
);
const batchOf = (...labels: number[]): Batch => ({
  x: tensor([1, 2, 3, -1, 0.5, 2], [3, 2]),
  labels: tensor(Int32Array.from(labels)),
});
const params = (): Params => ({
  base: tensor([1, 0.5, -0.5, 1], [2, 2]),
  top: tensor([1, 0, 0.3, 1], [2, 2]),
});
const FULL = batchOf(0, 1, 0), ONE = batchOf(-100, 0, -100), NONE = batchOf(-100, -100, -100);

const define = (options: Partial<TrainingOptions<Batch>> = {}, own: Loss<Params, Batch> = loss) =>
  defineTraining(gpu, own, { optimizer: sgd({ learningRate: 0.1 }), steps: 4, lookEvery: 1, ...options });

Deno.test("evaluate weighs batches by their labels, and leaves out a batch without any", async () => {
  const { loss: mean, count, losses, counts } = await evaluate(gpu, {
    loss,
    params: params(),
    batches: [FULL, ONE, NONE],
  });
  assertEquals([count, counts, losses[2]], [4, [3, 1, 0], NaN]);
  assertAlmostEquals(mean, (3 * losses[0] + losses[1]) / 4, 1e-12);
  assert(Math.abs(mean - (losses[0] + losses[1]) / 2) > 0.1, "the mean of the means is another number");
  const plainly = await evaluate(gpu, { loss: plain, params: params(), batches: [FULL, ONE] });
  assertAlmostEquals(plainly.loss, (losses[0] + losses[1]) / 2, 1e-12);
});

Deno.test("evaluate and validation refuse batches of which none has a label, and counts that are not numbers", async () => {
  await assertRejects(
    () => evaluate(gpu, { loss, params: params(), batches: [NONE] }),
    InputError,
    "Cannot evaluate as a loss is a mean over labels: no batch has one that counts",
  );
  assertThrows(
    () => define({ validation: { batches: [NONE, NONE], every: 1 } }),
    InputError,
    "no batch has one that counts",
  );
  const odd = Object.assign(plain.bind(null), { count: () => NaN });
  await assertRejects(
    () => evaluate(gpu, { loss: odd, params: params(), batches: [FULL] }),
    InputError,
    'as the "count" of its loss must be a number from 0: got NaN',
  );
});

Deno.test("evaluate names the first parameter that is not finite, or the batch", async () => {
  const top = tensor([1, 0, 0.3, NaN], [2, 2]);
  const error = await assertRejects(
    () => evaluate(gpu, { loss, params: { ...params(), top }, batches: [FULL] }),
    NonFiniteError,
    'Cannot evaluate as the loss of batch 1 is NaN: element 3 of the parameter "top" is NaN; load weights that are finite',
  );
  assertEquals(error.step, 0);
  const bad = { ...FULL, x: tensor([1, 2, NaN, -1, 0.5, 2], [3, 2]) };
  await assertRejects(
    () => evaluate(gpu, { loss, params: params(), batches: [FULL, bad] }),
    NonFiniteError,
    "as the loss of batch 2 is NaN: all parameters are finite; look at that batch",
  );
});

Deno.test("validation is the mean over labels, of a loss of its own where there is one", async () => {
  const batches = [FULL, ONE, NONE];
  const twice = Object.assign(
    (p: Params, b: Batch): Tensor => plain({ ...p, top: matmul(p.top, tensor([2, 0, 0, 2], [2, 2])) }, b),
    { count: loss.count },
  );
  for (const own of [undefined, twice]) {
    const training = define({ validation: { batches, every: 1, loss: own } });
    const state = await training.next(await training.init(params()), FULL);
    const expected = await evaluate(gpu, { loss: own ?? loss, params: state.params, batches });
    assertEquals(state.validation, { step: 1, loss: expected.loss });
    assertEquals(state.look!.validation, [expected.loss]);
  }
});

Deno.test("nextTokenLoss counts the tokens that it predicts, and has what the model trains", async () => {
  const model = await newModel(gpu, { source: llamaSource({ layers: 1, tied: true }), seed: 1 });
  const trainable = (path: string): boolean => path.includes(".lora_");
  const [all, adapter] = [nextTokenLoss(model), nextTokenLoss({ ...model, trainable })];
  assertEquals([all.trainable, adapter.trainable], [undefined, trainable]);
  const batch = tokenBatch([2, 5]);
  assertEquals(all.count!(batch), 8);
  const labels = tensor(new Int32Array([7, -100, 1, -100, 5, 7, -100, -100, -100, -100]), [2, 5]);
  assertEquals(all.count!({ ...batch, labels }), 2);
});

Deno.test("training honours what its loss says is trainable, and the option first", async () => {
  const adapted = Object.assign(plain.bind(null), { trainable: (path: string) => path === "top" });
  const moved = async (options: Partial<TrainingOptions<Batch>>): Promise<boolean[]> => {
    const training = define(options, adapted), start = params();
    const state = await training.next(await training.init(start), FULL);
    return await Promise.all((["base", "top"] as const).map(async (name) => {
      const [a, b] = [await read(gpu, state.params[name]), await read(gpu, start[name])];
      return a.some((value, i) => value !== b[i]);
    }));
  };
  assertEquals(await moved({}), [false, true]);
  assertEquals(await moved({ trainable: () => true }), [true, true]);
});

Deno.test("resume refuses a model of another configuration, which its parameters do not show", async () => {
  const fileSystem = memoryFileSystem(), path = "run.safetensors";
  const source = llamaSource({ layers: 1, tied: true }), model = await newModel(gpu, { source, seed: 1 });
  const trainingOf = (changes: object) =>
    defineTraining(gpu, nextTokenLoss({ ...model, ...changes }), {
      optimizer: sgd({ learningRate: 0.1 }),
      steps: 4,
    });
  await saveCheckpoint(gpu, await trainingOf({}).init(model.params), { path, fileSystem });
  const saved = await loadCheckpoint(path, { fileSystem });
  const { model_type, ...others } = source;
  for (const changes of [{ source: { ...source, rope_theta: 500 } }, { loraScale: 2 }]) {
    await assertRejects(() => trainingOf(changes).resume(saved), InputError, '"model" is "');
  }
  // Neither the order of its keys nor a version before, which kept nothing of the model, is another run.
  const reordered = trainingOf({ source: { ...others, model_type } });
  assertEquals((await reordered.resume(saved)).step, 0);
  const { model: _, ...settings } = saved.settings as RunSettings;
  assertEquals(
    (await trainingOf({ loraScale: 2 }).resume({ ...saved, settings } as unknown as SavedState)).step,
    0,
  );
});

Deno.test("training refuses a loss that returns no tensor", async () => {
  for (const wrong of [undefined, 3]) {
    const training = define({}, () => wrong as unknown as Tensor);
    const state = await training.init(params());
    await assertRejects(
      () => training.next(state, FULL),
      InputError,
      `must return a tensor, a scalar: it gave ${wrong}`,
    );
  }
});
