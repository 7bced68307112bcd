/** A batch without labels has no loss and no gradient: its step changes nothing, and its readings are absent. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  countLabels,
  crossEntropy,
  defineTraining,
  evaluate,
  type FreezePolicy,
  InputError,
  type Loss,
  matmul,
  multiply,
  NonFiniteError,
  read,
  sgd,
  sum,
  type Tensor,
  tensor,
  type Training,
  type TrainingOptions,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { stepLines } from "@firn/train/report";
import { gradES } from "@firn/train/policies";
import { ALL_SIGNALS, bitsOf, scheduled } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

type Params = { readonly bottom: Tensor; readonly top: Tensor };
type Batch = { readonly x: Tensor; readonly labels: Tensor };

const loss: Loss<Params, Batch> = Object.assign(
  ({ bottom, top }: Params, { x, labels }: Batch): Tensor =>
    crossEntropy(matmul(matmul(x, bottom), top), labels),
  { count: ({ labels }: Batch): number => countLabels(labels) },
);
const batchOf = (...labels: number[]): Batch => ({
  x: tensor([1, 2, 3, -1, 0.5, 2], [3, 2]),
  labels: tensor(Int32Array.from(labels)),
});
const params = (): Params => ({
  bottom: tensor([1, 0.5, -0.5, 1], [2, 2]),
  top: tensor([1, 0, 0.3, 1], [2, 2]),
});
const FULL = batchOf(0, 1, 0), NONE = batchOf(-100, -100, -100);

function define(options: Partial<TrainingOptions<Batch>> = {}): Training<Params, Batch> {
  return defineTraining(gpu, loss, {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 0.1, weightDecay: 0.5 })),
    policy: scheduled([], ALL_SIGNALS),
    steps: 6,
    lookEvery: 1,
    ...options,
  });
}

/** All that a step may change, but the readings. */
async function kept(state: TrainingState<Params>): Promise<Record<string, readonly number[]>> {
  const { ring: _, loss: __, ...rest } = await bitsOf(gpu, state);
  return rest;
}

for (const precision of ["f32", "f16"] as const) {
  const ignore = precision === "f16" && !gpu.features.has("shader-f16");
  Deno.test({
    name: `a batch without labels changes no weight and no moment, and has no readings, in ${precision}`,
    ignore,
    async fn() {
      const training = define({ precision });
      let state = await training.init(params());
      for (const batch of [NONE, FULL, NONE, FULL]) {
        const before = await kept(state), none = batch === NONE, first = state.step === 0;
        state = await training.next(state, batch);
        // The first step adds the leaves of readings.
        if (!first) assertEquals(none, JSON.stringify(await kept(state)) === JSON.stringify(before));
        const { loss, readings, skipped } = state.look!;
        assertEquals(Number.isNaN(loss[0]), none);
        assertEquals(Number.isNaN((await read(gpu, state.loss!))[0]), none);
        assertEquals(skipped, none ? [state.step] : precision === "f16" ? [] : undefined);
        const values = ALL_SIGNALS.map((signal) => readings[signal]!.top[0]);
        if (none) assert(values.every(Number.isNaN));
        const [line] = stepLines(state, { stepMs: 1 });
        assertEquals([line.loss === null, line], [none, JSON.parse(JSON.stringify(line))]);
        assert(state.cost!.launches > 0);
      }
      const { top } = state.look!.readings.gradNorm!;
      assert(top[0] > 0);
    },
  });
}

Deno.test("batches without labels between looks and across a checkpoint are absent, and the others as if alone", async () => {
  const path = await Deno.makeTempFile(), order = [FULL, NONE, FULL, NONE, NONE, FULL];
  const training = define({ lookEvery: 6 });
  let state = await training.init(params());
  for (const batch of order) {
    state = await training.next(state, batch);
    if (state.step === 4) {
      await saveCheckpoint(gpu, state, { path });
      state = await define({ lookEvery: 6 }).resume(await loadCheckpoint(path));
    }
  }
  await Deno.remove(path);
  assertEquals(state.look!.loss.map(Number.isNaN), [false, true, false, true, true, false]);
  assertEquals(state.look!.skipped, [2, 4, 5]);
  const plain = sgd({ learningRate: 0.1, momentum: 0.9 }), ends: unknown[] = [];
  for (const batches of [[FULL, NONE, FULL], [FULL, FULL]]) {
    const other = define({ optimizer: plain, policy: undefined, steps: 3 });
    let last = await other.init(params());
    for (const batch of batches) last = await other.next(last, batch);
    ends.push([...await read(gpu, last.params.bottom), ...await read(gpu, last.params.top)]);
  }
  assertEquals(ends[0], ends[1]);
});

Deno.test("nothing freezes by a batch without labels", async () => {
  const training = define({ policy: gradES({ tau: 1e-6, alpha: 0, components: "*" }) });
  let state = await training.init(params());
  for (const batch of [NONE, FULL, NONE]) state = await training.next(state, batch);
  assertEquals([state.frozen, state.done], [[], false]);
});

Deno.test("a loss that does not count its labels refuses a batch without any, in training and evaluation", async () => {
  const plain = (p: Params, b: Batch): Tensor => loss(p, b);
  const seen = `those of "labels" are all -100, and the loss does not count them`;
  const training = defineTraining<Params, Batch>(gpu, plain, {
    optimizer: sgd({ learningRate: 0.1 }),
    policy: gradES({ tau: 1e-6, alpha: 0, components: "*" }),
    lookEvery: 1,
    steps: 3,
  });
  let state = await training.init(params());
  state = await training.next(state, FULL);
  await assertRejects(() => training.next(state, NONE), InputError, seen);
  // The state was not consumed.
  state = await training.next(state, FULL);
  assertEquals([state.step, state.frozen], [2, []]);
  await assertRejects(
    () => evaluate(gpu, { loss: plain, params: params(), batches: [FULL, NONE] }),
    InputError,
    seen,
  );
  const validated = (validation: TrainingOptions<Batch>["validation"]) =>
    defineTraining<Params, Batch>(gpu, plain, {
      optimizer: sgd({ learningRate: 0.1 }),
      steps: 3,
      validation,
    });
  await assertRejects(
    async () => {
      const other = validated({ batches: [NONE], every: 1 });
      await other.next(await other.init(params()), FULL);
    },
    InputError,
    seen,
  );
  // One label is enough.
  const { losses } = await evaluate(gpu, {
    loss: plain,
    params: params(),
    batches: [batchOf(-100, 1, -100)],
  });
  assert(losses[0] > 0);
});

Deno.test("next names the parameter that was not finite before any step, and the batch where all were", async () => {
  for (const lookEvery of [1, 3]) {
    const training = define({ lookEvery });
    let state = await training.init({ ...params(), top: tensor([1, NaN, 0, 1], [2, 2]) });
    const error = await assertRejects(
      async () => {
        while (!state.done) state = await training.next(state, FULL);
      },
      NonFiniteError,
      'Cannot begin training as the loss of step 1 is NaN: element 1 of the parameter "top" is NaN; load weights that are finite',
    );
    assertEquals([error.step, error.what], [1, "loss"]);
  }
  const training = define(), x = tensor([1, 2, 3, -1, NaN, 2], [3, 2]);
  const start = await training.init(params());
  await assertRejects(
    () => training.next(start, { ...FULL, x }),
    NonFiniteError,
    "Cannot begin training as the loss of step 1 is NaN: all parameters are finite; look at the batch of that step",
  );
});

Deno.test("next names the step and the component whose gradient is not finite, though the loss is", async () => {
  // 0 as w is; its gradient by w is v x^2, beyond f32.
  const steep = ({ w, v }: { w: Tensor; v: Tensor }, { x }: { x: Tensor }): Tensor =>
    sum(multiply(multiply(x, v), multiply(x, w)));
  const training = defineTraining(gpu, steep, {
    optimizer: sgd({ learningRate: 0.1 }),
    policy: scheduled([], ["gradNorm"]),
    steps: 3,
    lookEvery: 3,
  });
  let state = await training.init({ w: tensor([0]), v: tensor([1]) });
  const error = await assertRejects(
    async () => {
      for (const x of [0, 1e30, 0]) state = await training.next(state, { x: tensor([x]) });
    },
    NonFiniteError,
    'Cannot go on training as the gradNorm of "w" of step 2 is Infinity',
  );
  assertEquals(error.step, 2);
});

Deno.test("a policy that names what is no component is refused, with the nearest names", async () => {
  const base = scheduled([], ["gradNorm"]);
  const wrong: Record<string, Partial<FreezePolicy>> = {
    frozen: { frozen: () => ["botom"] },
    probed: { probed: () => ["botom"] },
    measured: { measured: () => ["botom"] },
  };
  for (const [from, part] of Object.entries(wrong)) {
    const training = define({ policy: { ...base, ...part } });
    const start = await training.init(params());
    await assertRejects(
      () => training.next(start, FULL),
      InputError,
      `Cannot follow "scheduled" as "${from}" must name components: there is no "botom"; ` +
        'the nearest of 2 are "bottom", "top"',
    );
  }
});
