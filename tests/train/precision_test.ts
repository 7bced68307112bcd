/**
 * Training whose values are stored as f16 between kernels.
 *
 * @module
 */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  flatten,
  type HostData,
  InputError,
  type Look,
  multiply,
  nextTokenLoss,
  NonFiniteError,
  read,
  sgd,
  type Signal,
  type Tensor,
  tensor,
  type Training,
  type TrainingOptions,
  type TrainingState,
  type Tree,
  unflatten,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { newModel } from "@firn/train/hub";
import {
  bits,
  bitsOf,
  llamaSource,
  type Mlp,
  mlpLoss,
  newMlp,
  type Pairs,
  pairs,
  scheduled,
  tokenBatch,
} from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const SIGNALS: readonly Signal[] = ["gradNorm", "gradDelta", "weightDelta", "benefit"];
const optimizer = chain(clipByGlobalNorm(1), adamW({ learningRate: 0.01 }));
const model = await newModel(gpu, { source: llamaSource({ layers: 2, tied: true }), seed: 1 });

async function lossesOf(options: Partial<TrainingOptions>): Promise<{ losses: number[]; memory: number }> {
  using training = defineTraining(gpu, nextTokenLoss(model), {
    optimizer,
    steps: 15,
    lookEvery: 5,
    ...options,
  });
  let state = await training.init(model.params);
  const losses: number[] = [];
  while (!state.done) {
    state = await training.next(state, tokenBatch([4, 16], 1 + state.step % 3));
    if (state.look !== null) losses.push(...state.look.loss);
  }
  return { losses, memory: state.cost!.memory };
}

Deno.test("training with f16 follows the losses of f32, and needs less memory", async () => {
  const wide = await lossesOf({}), half = await lossesOf({ precision: "f16" });
  // f16 is off by 2^-11 of a value at most, and a gradient by 1e-3 of its norm. The first updates of AdamW are signs: in a
  // model so small, one weight whose gradient is near zero and that goes the other way changes losses by 1e-3.
  half.losses.forEach((loss, i) => assert(Math.abs(loss - wide.losses[i]) < 4e-3, `${i}: ${loss}`));
  assert(wide.losses[14] < 0.4 * wide.losses[0]);
  assert(half.losses.some((loss, i) => loss !== wide.losses[i]));
  assert(half.memory < 0.75 * wide.memory, `${half.memory} of ${wide.memory}`);
});

/** A loss so large that its gradients overflow at the first factors. */
const large = (params: Mlp, batch: Pairs): Tensor => multiply(mlpLoss(params, batch), 300);

function define(options: Partial<TrainingOptions> = {}, loss = large): Training<Mlp, Pairs> {
  return defineTraining(gpu, loss, {
    optimizer,
    policy: scheduled([], SIGNALS),
    steps: 12,
    lookEvery: 1,
    precision: "f16",
    ...options,
  });
}

const scaleOf = async (state: TrainingState<Mlp>): Promise<number> =>
  (await read(gpu, state.leaves.get("scaling.scale")!))[0];

Deno.test("a step whose gradients overflow is skipped: nothing changes but the factor, and its signals are NaN", async () => {
  using training = define();
  let state = await training.init(newMlp());
  const kept = ({ loss: _, ring: __, "scaling.scale": ___, ...rest }: Awaited<ReturnType<typeof bitsOf>>) =>
    rest;
  const start = kept(await bitsOf(gpu, state)), looks: Look[] = [], scales: number[] = [];
  let firstGood = 0;
  for (const batch of pairs(12)) {
    state = await training.next(state, batch);
    looks.push(state.look!);
    scales.push(await scaleOf(state));
    const skipped = state.look!.skipped!.length > 0;
    if (firstGood === 0 && skipped) assertEquals(kept(await bitsOf(gpu, state)), start);
    if (firstGood === 0 && !skipped) firstGood = state.step;
  }
  assert(firstGood > 2, `${firstGood}`);
  looks.forEach(({ readings, steps: [step], skipped, loss: [loss] }, i) => {
    assertEquals(skipped, step < firstGood ? [step] : []);
    assertEquals(scales[i], 2 ** (16 - Math.min(step, firstGood - 1)));
    assert(Number.isFinite(loss));
    for (const signal of SIGNALS) {
      for (const name of ["bottom", "top"]) {
        const [seen] = readings[signal]![name];
        // The first gradient has none before it.
        const absent = step < firstGood || (signal === "gradDelta" && step === firstGood);
        assertEquals(Number.isNaN(seen), absent, `${signal} of step ${step}`);
        assert(absent || seen > 0);
      }
    }
  });
  assert(looks[11].loss[0] < looks[0].loss[0]);
});

Deno.test("signals of f16 are those of the loss itself: nobody sees its factor", async () => {
  const readings = await Promise.all((["f32", "f16"] as const).map(async (precision) => {
    using training = define({ precision }, mlpLoss);
    const state = await training.next(await training.init(newMlp()), pairs(1)[0]);
    return state.look!;
  }));
  const [wide, half] = readings;
  assertEquals([wide.skipped, half.skipped], [undefined, []]);
  for (const name of ["bottom", "top"]) {
    const [a, b] = [wide, half].map((look) => look.readings.gradNorm![name][0]);
    // Sums of 32 numbers, each off by a few times 2^-11.
    assert(Math.abs(a - b) < 2e-3 * a, `${name}: ${a}, ${b}`);
  }
});

Deno.test("the factor doubles after 2000 good steps, and the count begins anew", async () => {
  using training = define({ steps: 2100, policy: undefined }, mlpLoss);
  let state = await training.init(newMlp());
  const path = await Deno.makeTempFile();
  await saveCheckpoint(gpu, state, { path });
  const { leaves, ...saved } = await loadCheckpoint(path);
  await Deno.remove(path);
  const good = { ...leaves.get("scaling.good")!, data: Float32Array.of(1998) as HostData };
  state = await training.resume({ ...saved, leaves: new Map([...leaves, ["scaling.good", good]]) });
  const seen: number[][] = [];
  for (const batch of pairs(3)) {
    state = await training.next(state, batch);
    seen.push([await scaleOf(state), (await read(gpu, state.leaves.get("scaling.good")!))[0]]);
  }
  assertEquals(seen, [[65536, 1999], [131072, 0], [131072, 1]]);
});

Deno.test("gradients that overflow at a factor of 1 are an error", async () => {
  // Finite in f32, and so are its gradients by weights; those by what lies between are not in f16.
  using training = define({ lookEvery: 5, steps: 40 }, (p, b) => multiply(mlpLoss(p, b), 1e7));
  let state = await training.init(newMlp());
  const [batch] = pairs(1);
  await assertRejects(
    async () => {
      while (!state.done) state = await training.next(state, batch);
    },
    NonFiniteError,
    "Cannot go on training as the gradient of step 17 is Infinity",
  );
});

Deno.test("training with f16 resumes from a checkpoint, in the middle of overflows, with the same bits", async () => {
  const path = await Deno.makeTempFile(), batches = pairs(9);
  try {
    using training = define({ lookEvery: 4 });
    let state = await training.init(newMlp());
    for (const batch of batches) {
      if (state.step === 2) await saveCheckpoint(gpu, state, { path });
      state = await training.next(state, batch);
    }
    using again = define({ lookEvery: 4 });
    let resumed = await again.resume(await loadCheckpoint(path));
    for (const batch of batches.slice(2)) resumed = await again.next(resumed, batch);
    assertEquals(await bitsOf(gpu, resumed), await bitsOf(gpu, state));
    using wide = define({ lookEvery: 4, precision: "f32" });
    await assertRejects(
      async () => wide.resume(await loadCheckpoint(path)),
      InputError,
      "Cannot resume as the training must be that of the saved run",
    );
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("freezing changes gradients of active components by roundings at most with f16", async () => {
  const gradients = async (trainable: (path: string) => boolean): Promise<Record<string, number>> => {
    using training = defineTraining(gpu, nextTokenLoss(model), {
      optimizer,
      trainable,
      policy: scheduled([], ["gradNorm"]),
      steps: 1,
      precision: "f16",
    });
    const { look } = await training.next(await training.init(model.params), tokenBatch([4, 16]));
    return Object.fromEntries(Object.entries(look!.readings.gradNorm!).map(([path, [norm]]) => [path, norm]));
  };
  const all = await gradients(() => true);
  for (const kept of ["mlp.up_proj", "layers.1.self_attn.v_proj", "norm.weight"]) {
    const some = await gradients((path) => path.includes(kept));
    assert(Object.keys(some).length < Object.keys(all).length);
    for (const [path, value] of Object.entries(some)) {
      // What one plan stores, another may keep in registers: 2^-11 of a value, and sums of hundreds of them.
      assert(
        Math.abs(value - all[path]) < 2 ** -11 * all[path],
        `${path} beside ${kept}: ${value}, ${all[path]}`,
      );
    }
  }
});

Deno.test("training on the same batches with f16 gives the same bits again", async () => {
  const run = async (): Promise<readonly number[]> =>
    bits(Float32Array.from((await lossesOf({ precision: "f16", steps: 3 })).losses));
  assertEquals(await run(), await run());
});

Deno.test("defineTraining refuses f16 where the adapter has no shader-f16", () => {
  const without = { ...gpu, name: "an old card", features: new Set(["subgroups"]) };
  assertThrows(
    () => defineTraining(without, mlpLoss, { optimizer, steps: 1, precision: "f16" }),
    InputError,
    'Cannot train with precision "f16" as "an old card" has no shader-f16: use "f32"',
  );
});

Deno.test("defineTraining refuses f32x3 where the adapter has no matrix units, and says what would have them", () => {
  const unit = { m: 8, n: 8, k: 8, operands: "f16", sums: "f16" } as const;
  for (const matrices of [[], [unit]]) {
    const without = { ...gpu, name: "an old card", target: { ...gpu.target, subgroupSize: 32, matrices } };
    assertThrows(
      () => defineTraining(without, mlpLoss, { optimizer, steps: 1, precision: "f32x3" }),
      InputError,
      'Cannot train with precision "f32x3" as "an old card" offers no matrix units of f16 operands and f32 sums: ' +
        'open it with gpu: "dawn" (--gpu dawn), or use "f32"',
    );
  }
});

const descent = chain(clipByGlobalNorm(1), sgd({ learningRate: 0.5 }));

/** The tiny Llama with weights so large that what its MLPs add up to is near 1e6, and norms that bring it back. */
async function giant(factor: number): Promise<Tree> {
  const large = [...flatten(model.params)].map(async ([path, weight]) => {
    const by = /down_proj/.test(path) ? factor : /(gate|up)_proj/.test(path) ? 30 : 1;
    return [path, tensor((await read(gpu, weight)).map((x) => x * by), weight.shape)] as const;
  });
  return unflatten(new Map(await Promise.all(large)));
}

Deno.test("activations of 1e6 are stored as f32 from the look that sees them, and training follows f32, over a checkpoint too", async () => {
  // AdamW divides by what depends on the number of the step, so that one that was skipped would tell.
  const params = await giant(3e5), sources = { optimizer: descent, steps: 12, lookEvery: 2 };
  const run = async (
    precision: "f32" | "f16",
  ): Promise<{ losses: number[]; skipped: number[] }> => {
    using training = defineTraining(gpu, nextTokenLoss(model), { ...sources, precision });
    let state = await training.init(params as typeof model.params);
    const losses: number[] = [], skipped: number[] = [];
    while (!state.done) {
      // What was skipped is taken again.
      const number = state.step - skipped.length;
      state = await training.next(state, tokenBatch([4, 16], 1 + number % 3));
      if (state.look === null) continue;
      losses.push(...state.look.loss.filter((_, i) => !state.look!.skipped?.includes(state.look!.steps[i])));
      skipped.push(...state.look.skipped ?? []);
      assertEquals(state.wide, precision === "f16");
      if (state.step !== 4 || precision === "f32") continue;
      const path = await Deno.makeTempFile();
      await saveCheckpoint(gpu, state, { path });
      state = await training.resume(await loadCheckpoint(path));
      await Deno.remove(path);
      assert(state.wide);
    }
    return { losses, skipped };
  };
  const wide = await run("f32"), half = await run("f16");
  assertEquals(half.skipped, [1, 2]);
  half.losses.forEach((loss, i) =>
    assert(Math.abs(loss - wide.losses[i]) < 2e-3, `${i}: ${loss}, ${wide.losses[i]}`)
  );
});

Deno.test("a weight beyond the range of f16 is named", async () => {
  using training = defineTraining(gpu, nextTokenLoss(model), {
    optimizer,
    steps: 4,
    lookEvery: 1,
    precision: "f16",
  });
  const state = await training.init(await giant(1e8) as typeof model.params);
  await assertRejects(
    () => training.next(state, tokenBatch([4, 16])),
    NonFiniteError,
    'of the parameter "model.layers.0.mlp.down_proj.weight" is ',
  );
});
