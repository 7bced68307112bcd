/** Steps of several batches: the step of all samples in one. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  countLabels,
  crossEntropy,
  defineTraining,
  dropout,
  type FreezePolicy,
  type Gpu,
  InputError,
  type Loss,
  matmul,
  mean,
  multiply,
  read,
  type RunSettings,
  scan,
  sgd,
  type Tensor,
  tensor,
  type Training,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { memoryFileSystem } from "@firn/train/data";
import { assertNear } from "../reference/values.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { ALL_SIGNALS, bitsOf, scheduled, valuesOf } from "./tiny.ts";

const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

type Params = { readonly bottom: { readonly weight: Tensor }; readonly top: { readonly weight: Tensor } };
type Batch = { readonly x: Tensor; readonly labels: Tensor };

const IGNORED = -100, STEPS = 4, WIDTH = 4, CLASSES = 3;
const loss: Loss<Params, Batch> = Object.assign(
  ({ bottom, top }: Params, { x, labels }: Batch): Tensor =>
    crossEntropy(matmul(matmul(x, bottom.weight), top.weight), labels),
  { count: ({ labels }: Batch): number => countLabels(labels) },
);

function wave(shape: readonly number[], seed: number): Tensor {
  const size = shape.reduce((n, d) => n * d, 1);
  return tensor(Float32Array.from({ length: size }, (_, i) => Math.sin(seed * 17 + i * 1.7)), shape);
}

const params = (): Params => ({
  bottom: { weight: wave([WIDTH, 5], 1) },
  top: { weight: wave([5, CLASSES], 2) },
});

/** Rows of a step: of each third the first has all labels, the second one, the third none. */
function rows(step: number): { readonly x: number[][]; readonly labels: number[] } {
  const x = Array.from(
    { length: 9 },
    (_, r) => Array.from({ length: WIDTH }, (_, c) => Math.sin(step * 5 + r * 3 + c)),
  );
  return { x, labels: [0, 1, 2, 1, IGNORED, IGNORED, IGNORED, IGNORED, IGNORED] };
}

function batchOf({ x, labels }: ReturnType<typeof rows>): Batch {
  return { x: tensor(x.flat(), [labels.length, WIDTH]), labels: tensor(Int32Array.from(labels)) };
}

const large = (step: number): Batch => batchOf(rows(step));
const parts = (step: number): Batch[] => {
  const { x, labels } = rows(step);
  return [0, 3, 6].map((at) => batchOf({ x: x.slice(at, at + 3), labels: labels.slice(at, at + 3) }));
};

function define(
  accumulate: number,
  { policy, precision = "f32" }: { readonly policy?: FreezePolicy; readonly precision?: "f32" | "f16" } = {},
): Training<Params, Batch> {
  return defineTraining<Params, Batch>(gpu, loss, {
    optimizer: chain(clipByGlobalNorm(0.3), adamW({ learningRate: 0.05 })),
    steps: STEPS,
    lookEvery: 1,
    accumulate,
    policy,
    precision,
  });
}

/** All but those of samples without labels: a part that has no others is left out, where one batch has their activations. */
const SIGNALS = ALL_SIGNALS.filter((signal) => signal !== "activationNorm");

/** Freezes the bottom after step 2, which is then probed, and measures all that there is. */
const policy: FreezePolicy = {
  ...scheduled([{ from: 2, frozen: ["bottom"] }], SIGNALS),
  probed: (step) => (step as number) >= 2 ? ["bottom"] : [],
};

for (const precision of ["f32", "f16"] as const) {
  Deno.test({
    name:
      `a step of parts is that of one batch weighted by labels, with all signals, frozen or not: ${precision}`,
    ignore: precision === "f16" && !gpu.features.has("shader-f16"),
    async fn() {
      using one = define(1, { policy, precision });
      using many = define(3, { policy, precision });
      let [a, b] = [await one.init(params()), await many.init(params())];
      const tolerance = precision === "f32" ? 2e-6 : 4e-3;
      while (!a.done) {
        const step = a.step + 1;
        a = await one.next(a, large(step));
        b = await many.next(b, parts(step));
        const near = (x: number, y: number, what: string): void => {
          if (Number.isNaN(y)) return assertEquals(x, y, what);
          assertNear(Float32Array.of(x), Float64Array.of(y), {
            tolerance: tolerance * (1 + Math.abs(y)),
            what,
          });
        };
        near(b.look!.loss[0], a.look!.loss[0], `loss of step ${step}`);
        for (const signal of SIGNALS) {
          for (const path of ["bottom", "top"]) {
            const [now, then] = [b, a].map(({ look }) => look!.readings[signal]![path][0]);
            near(now, then, `${signal} of ${path}, step ${step}`);
          }
        }
        assertEquals(b.frozen, a.frozen);
        const weights = await valuesOf(gpu, a.params);
        for (const [path, values] of await valuesOf(gpu, b.params)) {
          assertNear(values, Float64Array.from(weights.get(path)!), {
            tolerance,
            what: `${path}, step ${step}`,
          });
        }
      }
      assertEquals(a.frozen, ["bottom"]);
    },
  });
}

Deno.test("a run of parts goes on from a checkpoint with the same bits, and only with as many parts", async () => {
  const fileSystem = memoryFileSystem(), path = "run.safetensors";
  const go = async (training: Training<Params, Batch>, from: TrainingState<Params>, to: number) => {
    let state = from;
    while (state.step < to) state = await training.next(state, parts(state.step + 1));
    return state;
  };
  using training = define(3, { policy });
  let state = await go(training, await training.init(params()), 2);
  await saveCheckpoint(gpu, state, { path, fileSystem });
  state = await go(training, state, STEPS);
  using again = define(3, { policy });
  const saved = await loadCheckpoint(path, { fileSystem });
  assertEquals(
    await bitsOf(gpu, await go(again, await again.resume(saved), STEPS)),
    await bitsOf(gpu, state),
  );
  using other = define(2, { policy });
  await assertRejects(() => other.resume(saved), InputError, '"accumulate" is 2 where that had 3');
  // A state of an earlier version, which had one batch a step.
  const { accumulate: _, ...settings } = saved.settings as RunSettings;
  await assertRejects(
    () => other.resume({ ...saved, settings }),
    InputError,
    '"accumulate" is 2 where that had 1',
  );
});

Deno.test("scan makes steps of parts, and the last one of what is left", async () => {
  using training = define(3);
  const batches = [...parts(1), ...parts(2), ...parts(3).slice(0, 1)], steps: number[] = [];
  const seen: TrainingState<Params>[] = [];
  for await (const state of scan(training, await training.init(params()), batches)) {
    seen.push(state);
    steps.push(state.step);
  }
  assertEquals(steps, [1, 2, 3]);
  using single = define(3);
  let state = await single.init(params());
  for (const list of [parts(1), parts(2), parts(3)[0]]) state = await single.next(state, list);
  assertEquals(await bitsOf(gpu, seen.at(-1)!), await bitsOf(gpu, state));
});

Deno.test("parts without labels are left out, and a step of such parts alone changes nothing", async () => {
  using training = define(3);
  let state = await training.init(params());
  const before = await valuesOf(gpu, state.params);
  state = await training.next(state, [parts(1)[2], parts(2)[2]]);
  assertEquals(state.look!.loss, [NaN]);
  assertEquals(await valuesOf(gpu, state.params), before);
});

Deno.test("each part of each step draws its own random numbers", async () => {
  const dropped = ({ w }: { w: Tensor }, { x }: { x: Tensor }): Tensor =>
    mean(multiply(dropout(x, { rate: 0.5, seed: 1 }), w));
  using training = defineTraining(gpu, dropped, {
    optimizer: sgd({ learningRate: 0 }),
    steps: 8,
    lookEvery: 1,
    accumulate: 2,
  });
  const size = 64, x = tensor(new Float32Array(size).fill(1));
  let state = await training.init({
    w: tensor(Float32Array.from({ length: size }, (_, i) => 2 ** (i % 20))),
  });
  const losses: number[] = [];
  for (const list of [[{ x }], [{ x }, { x }]]) {
    state = await training.next(state, list);
    losses.push(state.look!.loss[0]);
  }
  // Would the parts of step 2 draw alike, their mean would be the loss of one of them.
  using one = defineTraining(gpu, dropped, {
    optimizer: sgd({ learningRate: 0 }),
    steps: 8,
    lookEvery: 1,
    accumulate: 2,
  });
  let other = await one.init({ w: tensor(Float32Array.from({ length: size }, (_, i) => 2 ** (i % 20))) });
  for (let i = 0; i < 2; i++) other = await one.next(other, [{ x }]);
  assert(other.look!.loss[0] !== losses[1], `${losses}`);
  assert(losses[0] !== losses[1]);
  assert(Number.isFinite((await read(gpu, state.loss!))[0]));
});

Deno.test("a training with more parts than random numbers tell apart is refused at its first step, one that draws none is not", async () => {
  const dropped = ({ w }: { w: Tensor }): Tensor => mean(dropout(w, { rate: 0.5, seed: 1 }));
  const options = { optimizer: sgd({ learningRate: 0 }), steps: 3_000_000, accumulate: 32 };
  using many = defineTraining(gpu, dropped, options),
    plain = defineTraining(gpu, ({ w }: { w: Tensor }) => mean(w), options);
  using fewer = defineTraining(gpu, dropped, { ...options, steps: 2_000_000 });
  const step = async (training: Training<{ w: Tensor }, object>): Promise<number> =>
    (await training.next(await training.init({ w: tensor([1, 2]) }), [{}])).step;
  await assertRejects(() => step(many), InputError, "fewer than 83886080 times: there are 96000000");
  assertEquals([await step(plain), await step(fewer)], [1, 1]);
});

Deno.test("next refuses more parts than it may have, none, and parts of different shapes", async () => {
  using training = define(2);
  const state = await training.init(params());
  const refused = (list: Batch[], message: string) =>
    assertRejects(() => training.next(state, list), InputError, message);
  await refused(parts(1), 'Cannot take a step of 3 batches as "accumulate" is 2');
  await refused([], "Cannot take a step of 0 batches");
  await refused([parts(1)[0], large(1)], "those of a step must have equal shapes");
  using single = define(1);
  const other = await single.init(params());
  await assertRejects(() => single.next(other, parts(1)), InputError, '"accumulate" is 1');
  assertThrows(() => define(1.5), InputError, '"accumulate" must be a whole number above 0');
});
