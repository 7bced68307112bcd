/** The loss on batches that are not trained on. */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adamW,
  defineTraining,
  evaluate,
  free,
  InputError,
  type Look,
  NonFiniteError,
  ShapeError,
  snapshot,
  tensor,
  type Training,
  type TrainingOptions,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { advance, bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs, scheduled } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 9;
const batches = pairs(STEPS), held = pairs(3, 2).map(({ x, y }) => ({ x: y, y: x }));
/** With a look every 2 steps and after the last: at 4 and 8, where 3 have passed, and after the last. */
const DUE = [4, 8, 9];

function define(options: Partial<TrainingOptions<Pairs>> = {}): Training<Mlp, Pairs> {
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: adamW({ learningRate: 0.05 }),
    steps: STEPS,
    lookEvery: 2,
    validation: { batches: held, every: 3 },
    ...options,
  });
}

/** What a policy would see, and the mean loss of the held batches after each step. */
async function run(
  training: Training<Mlp, Pairs>,
): Promise<{ looks: Look[]; expected: number[]; shown: unknown[] }> {
  let state = await training.init(newMlp());
  const looks: Look[] = [], expected: number[] = [], shown: unknown[] = [];
  while (!state.done) {
    state = await advance(training, state, { to: state.step + 1, batches });
    expected.push((await evaluate(gpu, { loss: mlpLoss, params: state.params, batches: held })).loss);
    shown.push(state.validation);
    if (state.look !== null) looks.push(state.look);
  }
  return { looks, expected, shown };
}

Deno.test("next validates at looks, when enough steps have passed, and after the last", async () => {
  const { looks, expected, shown } = await run(define());
  const seen = looks.flatMap(({ steps, validation }) => steps.map((step, i) => [step, validation![i]]));
  assertEquals(seen, expected.map((loss, i) => [i + 1, DUE.includes(i + 1) ? loss : NaN]));
  const at = (step: number): unknown => ({ step, loss: expected[step - 1] });
  assertEquals(shown, [null, null, null, at(4), at(4), at(4), at(4), at(8), at(9)]);
});

Deno.test("validation lets the policy see what look has, and nothing where there is none", async () => {
  const seen: (readonly number[] | undefined)[] = [];
  const policy = scheduled([]);
  const watching = { ...policy, next: (state: number, look: Look) => (seen.push(look.validation), state) };
  await run(define({ policy: watching as typeof policy }));
  assertEquals(seen.map((losses) => losses!.map(Number.isNaN)), [
    [true, true],
    [true, false],
    [true, true],
    [true, false],
    [false],
  ]);
  const { looks } = await run(define({ validation: undefined }));
  assertEquals(looks.some((look) => "validation" in look), false);
});

Deno.test("validation leaves training as it is, to the bit", async () => {
  const ends: unknown[] = [];
  for (const validation of [undefined, { batches: held, every: 1 }]) {
    const training = define({ validation });
    ends.push(
      await bitsOf(gpu, await advance(training, await training.init(newMlp()), { to: STEPS, batches })),
    );
  }
  assertEquals(ends[0], ends[1]);
});

Deno.test("validation makes nothing anew but the first time, and dispose frees what it made", async () => {
  await using gpu = await openTestGpu();
  const bytes = async (validation: TrainingOptions<Pairs>["validation"]): Promise<number> => {
    const training = defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
      optimizer: adamW({ learningRate: 0.05 }),
      steps: STEPS,
      lookEvery: 1,
      validation,
    });
    const before = gpu.counts.bytes;
    let state = await training.next(await training.init(newMlp()), batches[0]);
    state = await training.next(state, batches[1]);
    const { buffers, bindGroups, pipelines } = gpu.counts;
    for (const batch of batches.slice(2, 5)) state = await training.next(state, batch);
    assertEquals([gpu.counts.buffers, gpu.counts.bindGroups, gpu.counts.pipelines], [
      buffers,
      bindGroups,
      pipelines,
    ]);
    training[Symbol.dispose]();
    return gpu.counts.bytes - before;
  };
  // The first look leaves a staging buffer.
  await bytes(undefined);
  assertEquals(await bytes({ batches: held, every: 1 }), await bytes(undefined));
});

Deno.test("validation sees the parameters of the state that is trained, where two are trained in alternation", async () => {
  const training = define({ lookEvery: 1, validation: { batches: held, every: 1 } });
  let left = await advance(training, await training.init(newMlp()), { to: 2, batches }),
    right = snapshot(gpu, left);
  for (let step = 3; step <= 5; step++) {
    left = await advance(training, left, { to: step, batches });
    right = await training.next(right, batches[0]);
    for (const state of [left, right]) {
      const { loss } = await evaluate(gpu, { loss: mlpLoss, params: state.params, batches: held });
      assertEquals(state.validation, { step, loss });
    }
  }
});

Deno.test("resume validates at the steps at which an undisturbed run does", async () => {
  const expected = await advance(define(), await define().init(newMlp()), { to: STEPS, batches });
  const folder = await Deno.makeTempDir();
  for (const at of [3, 5, 8, 9]) {
    const first = define(), path = `${folder}/${at}.safetensors`;
    await saveCheckpoint(gpu, await advance(first, await first.init(newMlp()), { to: at, batches }), {
      path,
    });
    const second = define(), state = await second.resume(await loadCheckpoint(path));
    assertEquals(state.validation?.step ?? null, at === 3 ? null : at === 5 ? 4 : at);
    const last = await advance(second, state, { to: STEPS, batches });
    assertEquals([last.validation, await bitsOf(gpu, last)], [
      expected.validation,
      await bitsOf(gpu, expected),
    ]);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("next throws NonFiniteError when the validation loss is not finite", async () => {
  const bad = [{ ...held[0], x: tensor(new Float32Array(8).fill(NaN), [2, 4]) }];
  const training = define({ validation: { batches: bad, every: 1 } });
  await assertRejects(
    async () => await advance(training, await training.init(newMlp()), { to: STEPS, batches }),
    NonFiniteError,
    "Cannot go on training as the validation loss of step 2 is NaN",
  );
});

Deno.test("defineTraining refuses validation without batches, or never", () => {
  assertThrows(
    () => define({ validation: { batches: [], every: 1 } }),
    InputError,
    'Cannot validate as "batches" is empty',
  );
  for (const every of [0, 0.5, NaN]) {
    assertThrows(
      () => define({ validation: { batches: held, every } }),
      InputError,
      `Cannot validate every ${every} steps`,
    );
  }
});

Deno.test("defineTraining refuses validation batches that are not alike", () => {
  const define2 = (second: object) =>
    define({ validation: { batches: [held[0], second as Pairs], every: 1 } });
  const refused = (path: string): string => `as "${path}" must be alike in all batches: got `;
  assertThrows(() => define2(pairs(1, 3)[0]), ShapeError, refused("x") + "[2, 4] and [3, 4]");
  assertThrows(() => define2({ x: held[1].x }), InputError, refused("y") + "f32 and nothing");
  assertThrows(() => define2({ ...held[1], z: held[1].x }), InputError, refused("z") + "nothing and f32");
  const whole = tensor(new Int32Array(8), [2, 4]);
  assertThrows(() => define2({ ...held[1], x: whole }), InputError, refused("x") + "f32 and i32");
});

Deno.test("evaluate keeps a batch entry called results apart from its own", async () => {
  const named = held.map(({ x, y }) => ({ x, results: y }));
  const losses = await evaluate(gpu, {
    loss: (params: Mlp, { x, results }: (typeof named)[number]) => mlpLoss(params, { x, y: results }),
    params: newMlp(),
    batches: named,
  });
  const expected = await evaluate(gpu, { loss: mlpLoss, params: newMlp(), batches: held });
  assertEquals(losses, expected);
});

Deno.test("evaluate frees the buffers of batches where it cannot be recorded", async () => {
  const training = define();
  const state = await training.init(newMlp());
  free({ top: state.params.top });
  const before = gpu.counts.bytes;
  const evaluated = evaluate(gpu, { loss: mlpLoss, params: state.params, batches: held });
  await assertRejects(() => evaluated, InputError, "was freed");
  assertEquals(gpu.counts.bytes, before);
  training[Symbol.dispose]();
  free({ bottom: state.params.bottom });
});
