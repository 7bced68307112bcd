/** What training does where a loss or a gradient is not finite: stop, skip, or go back. */

import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adamW,
  chain,
  defineTraining,
  type FreezePolicy,
  type Gpu,
  InputError,
  multiply,
  NonFiniteError,
  type Optimizer,
  scan,
  sum,
  type Tensor,
  tensor,
  type Training,
  type TrainingOptions,
  type TrainingState,
} from "@firn/train";
import { checkpointKeeper, loadCheckpoint } from "@firn/train/checkpoint";
import { memoryFileSystem } from "@firn/train/data";
import { adamW8bit, weightAverage } from "@firn/train/optim";
import { openTestGpu } from "../reference/open_gpu.ts";
import { bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs, scheduled, valuesOf } from "./tiny.ts";

const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 6, batches = pairs(STEPS);
/** A batch whose loss is NaN. */
const bad: Pairs = { x: tensor(new Float32Array(16).fill(NaN), [4, 4]), y: batches[0].y };

function define(
  nonFinite: TrainingOptions<Pairs>["nonFinite"],
  more: Partial<TrainingOptions<Pairs>> = {},
): Training<Mlp, Pairs> {
  const optimizer = chain(adamW({ learningRate: 0.05 }), weightAverage(0.9));
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer,
    steps: STEPS,
    lookEvery: 1,
    nonFinite,
    ...more,
  });
}

async function run(training: Training<Mlp, Pairs>, list: readonly Pairs[]): Promise<TrainingState<Mlp>[]> {
  const states: TrainingState<Mlp>[] = [];
  for await (const state of scan(training, await training.init(newMlp()), list)) states.push(state);
  return states;
}

Deno.test("stop throws at the look that finds a loss that is not finite", async () => {
  using training = define("stop");
  await assertRejects(() => run(training, [batches[0], bad]), NonFiniteError, "loss of step 2 is NaN");
});

Deno.test("a step that stops training leaves nothing on the device that nobody can free", async () => {
  const stopped = async (): Promise<void> => {
    using training = define("stop", { lookEvery: 2 });
    const first = await training.next(await training.init(newMlp()), batches[0]);
    await assertRejects(() => training.next(first, bad), NonFiniteError);
  };
  // The first one leaves buffers that are used again, as for uploads.
  await stopped();
  const before = gpu.counts.bytes;
  await stopped();
  assertEquals(gpu.counts.bytes, before);
});

const OPTIMIZERS: Readonly<Record<string, Optimizer>> = {
  "adamW with an average": chain(adamW({ learningRate: 0.05 }), weightAverage(0.9)),
  "adamW8bit, whose state is no number": adamW8bit({ learningRate: 0.05, least: 0 }),
};
for (const [name, optimizer] of Object.entries(OPTIMIZERS)) {
  for (const accumulate of [1, 2]) {
    Deno.test(`skip changes no weight and no moment, and says which step: ${name}, ${accumulate} batches`, async () => {
      using training = define("skip", {
        optimizer,
        accumulate,
        policy: scheduled([], ["gradNorm", "gradDelta"]),
      });
      let state = await training.init(newMlp());
      const take = async (batch: Pairs): Promise<void> => {
        state = await training.next(state, accumulate === 1 ? batch : [batches[5], batch]);
      };
      await take(batches[0]);
      assertEquals([state.look!.skipped, state.look!.loss.every(Number.isFinite)], [[], true]);
      const { ring: _, loss: __, ...before } = await bitsOf(gpu, state);
      await take(bad);
      const { ring: ___, loss: ____, ...after } = await bitsOf(gpu, state);
      assertEquals(after, before);
      assertEquals([state.look!.skipped, state.look!.loss], [[2], [NaN]]);
      assertEquals(state.look!.readings.gradNorm!.top, [NaN]);
      await take(batches[2]);
      assertEquals(state.look!.skipped, []);
      assert(state.look!.readings.gradNorm!.top[0] > 0);
    });
  }
}

Deno.test("skip skips a step whose loss is finite and whose gradient is not", async () => {
  // 0 times 1e30 times 1e30 is 0, and its slope, 1e60, is beyond f32.
  const loss = ({ w }: { w: Tensor }, { x }: { x: Tensor }): Tensor => sum(multiply(multiply(w, x), x));
  using training = defineTraining(gpu, loss, {
    optimizer: adamW({ learningRate: 0.1 }),
    steps: 2,
    lookEvery: 1,
    nonFinite: "skip",
  });
  let state = await training.init({ w: tensor([0, 1]) });
  const before = await valuesOf(gpu, state.params);
  state = await training.next(state, { x: tensor([1e30, 1]) });
  assertEquals(state.look!.skipped, [1]);
  assertEquals(await valuesOf(gpu, state.params), before);
  state = await training.next(state, { x: tensor([1, 1]) });
  assertNotEquals(await valuesOf(gpu, state.params), before);
});

/** Freezes the bottom after step 2. */
const freezing: FreezePolicy = scheduled([{ from: 2, frozen: ["bottom"] }], ["gradNorm"]);

for (const accumulate of [1, 2]) {
  Deno.test(`rollback goes on from the state of the last look as if the bad steps had not been: ${accumulate} batches`, async () => {
    const options = { policy: freezing, lookEvery: 2, accumulate };
    const times = (list: readonly Pairs[]): Pairs[] => list.flatMap((one) => Array(accumulate).fill(one));
    using training = define("rollback", options);
    const list = [...batches.slice(0, 3), bad, ...batches.slice(2)];
    const states = await run(training, times(list));
    assertEquals(states.map(({ step }) => step), [1, 2, 3, 2, 3, 4, 5, 6]);
    const { rolledBack } = states[3];
    assertEquals(rolledBack!.from, 4);
    assert(rolledBack!.why.includes("loss of step 4 is NaN"), rolledBack!.why);
    assertEquals(states.filter((state) => state.rolledBack !== undefined).length, 1);
    using other = define("stop", options);
    const expected = await run(other, times(batches));
    assertEquals(states.at(-1)!.frozen, ["bottom"]);
    assertEquals(await bitsOf(gpu, states.at(-1)!), await bitsOf(gpu, expected.at(-1)!));
  });
}

Deno.test("rollback goes back where a checkpoint is due between the bad step and the look, and none is bad", async () => {
  using training = define("rollback", { lookEvery: 3 });
  const fileSystem = memoryFileSystem(), path = "run.safetensors", saved: number[] = [];
  const keeper = checkpointKeeper<Mlp>(gpu, { path, every: 1, keep: 1, fileSystem });
  const list = [...batches.slice(0, 3), bad, ...batches.slice(0, 2), ...batches.slice(3)];
  for await (const state of scan(training, await training.init(newMlp()), list)) {
    await keeper.after(state);
    await keeper.flush();
    saved.push((await loadCheckpoint(path, { fileSystem })).step);
  }
  // Steps 4 and 5 are bad, and step 6 is back at 3.
  assertEquals(saved, [1, 2, 3, 3, 3, 3, 4, 5, 5]);
});

Deno.test("rollback goes back to the start where the first look is bad, and throws when it does not help", async () => {
  using training = define("rollback");
  const before = await valuesOf(gpu, newMlp());
  const [state] = await run(training, [bad]);
  assertEquals([state.step, await valuesOf(gpu, state.params)], [0, before]);
  using other = define("rollback");
  await assertRejects(() => run(other, [bad, bad, bad, bad]), NonFiniteError, "loss of step 1 is NaN");
});

Deno.test("rollback frees its copies with the training", async () => {
  const before = gpu.counts.bytes;
  const training = define("rollback");
  let state = await training.init(newMlp());
  const held = gpu.counts.bytes - before;
  state = await training.next(state, batches[0]);
  assert(gpu.counts.bytes - before > 2 * held);
  training[Symbol.dispose]();
  assert(gpu.counts.bytes - before < 2 * held, `${gpu.counts.bytes - before} of ${held}`);
  assertEquals(state.step, 1);
});

Deno.test("defineTraining refuses another word for nonFinite", () => {
  assertThrows(
    () => define("ignore" as "skip"),
    InputError,
    '"nonFinite" must be one of stop, skip, rollback',
  );
});
