/**
 * Signals of one's own: what they cost, and that they follow the step wherever it goes.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  abs,
  adamW,
  add,
  type AnySignal,
  chain,
  clipByGlobalNorm,
  defineTraining,
  divide,
  InputError,
  matmul,
  max,
  mean,
  multiply,
  type Optimizer,
  readAll,
  sgd,
  sqrt,
  sum,
  type Tensor,
  tensor,
  type TrainingOptions,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { memoryFileSystem } from "@firn/train/data";
import { adafactor, adamW8bit, lion, muon, scheduleFreeAdamW } from "@firn/train/optim";
import { allOf, below, definePolicy, defineSignal, gradES, only, smooth, thaw } from "@firn/train/policies";
import { openTestGpu } from "../reference/open_gpu.ts";
import { advance, bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs, scheduled } from "./tiny.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const square = (x: Tensor): Tensor => multiply(x, x);

/** Update over weight, and others that read all that there is. */
const trust = defineSignal({
  name: "trust",
  measure: ({ weight, update }) => sqrt(divide(sum(square(update)), add(sum(square(weight)), 1e-9))),
});
const turn = defineSignal({
  name: "turn",
  needs: ["previousGradient"],
  measure: ({ gradient, previousGradient }) => mean(multiply(gradient, previousGradient)),
});
const energy = defineSignal({
  name: "energy",
  needs: ["secondMoment"],
  measure: ({ gradient, moments }) => divide(sum(square(gradient)), sum(moments.secondMoment)),
});
const peak = defineSignal({ name: "peak", measure: ({ gradient }) => max(abs(gradient)) });
const slope = defineSignal({
  name: "slope",
  measure: ({ gradient, weight }) => sum(multiply(gradient, weight)),
});

function define(options: Partial<TrainingOptions>) {
  return defineTraining(gpu, mlpLoss, {
    optimizer: adamW({ learningRate: 0.05 }),
    steps: 6,
    lookEvery: 1,
    ...options,
  });
}

/** Readings of some signals in a run of three steps. */
async function readingsOf(signals: readonly AnySignal[], options: Partial<TrainingOptions> = {}) {
  const training = define({ policy: scheduled([], signals), ...options });
  let state = await training.init(newMlp());
  const readings = [];
  for (const batch of pairs(3)) {
    state = await training.next(state, batch);
    readings.push(state.look!.readings);
  }
  return { readings, cost: state.cost! };
}

const OPTIMIZERS: readonly Optimizer[] = [
  sgd({ learningRate: 0.1 }),
  sgd({ learningRate: 0.1, momentum: 0.9 }),
  adamW({ learningRate: 0.05 }),
  chain(clipByGlobalNorm(0.5), adamW({ learningRate: 0.05 })),
  adamW8bit({ learningRate: 0.05 }),
  adafactor({ learningRate: 0.05 }),
  lion({ learningRate: 0.01 }),
  muon({ learningRate: 0.05 }),
  scheduleFreeAdamW({ learningRate: 0.05 }),
];

for (const optimizer of OPTIMIZERS) {
  Deno.test(`a signal of sums costs no launch, and is what the built-in ones make of them: ${optimizer.name}`, async () => {
    const names = ["updateNorm", "weightNorm", "gradSquare", "secondMoment"] as const;
    const { readings, cost } = await readingsOf([...names, trust, energy], { optimizer });
    const { cost: plain } = await readingsOf(["secondMoment"], { optimizer });
    assertEquals(cost.launches, plain.launches);
    for (const { trust, energy, updateNorm, weightNorm, gradSquare, secondMoment } of readings) {
      for (const path of ["bottom", "top"]) {
        assertAlmostEquals(trust[path][0], updateNorm[path][0] / weightNorm[path][0], 1e-6);
        assertAlmostEquals(
          energy[path][0],
          gradSquare[path][0] / secondMoment[path][0],
          1e-6 * energy[path][0],
        );
      }
    }
  });
}

Deno.test("a component of several parameters counts as one vector: sums, means and maxima go over all", async () => {
  interface Biased {
    readonly [name: string]: { readonly weight: Tensor; readonly bias: Tensor };
  }
  const loss = ({ a }: Biased, { x }: { readonly x: Tensor }) =>
    mean(square(add(matmul(x, a.weight), a.bias)));
  const average = defineSignal({ name: "average", measure: ({ gradient }) => mean(abs(gradient)) });
  const training = defineTraining(gpu, loss, {
    optimizer: sgd({ learningRate: 0.1 }),
    policy: scheduled([], [average, peak, slope, "gradNorm", "activationNorm"]),
    steps: 1,
  });
  const x = tensor([1, -2, 3, 0.5, 1, 2], [2, 3]);
  const start = { a: { weight: tensor([1, 2, 3, -1, 0.5, 1], [3, 2]), bias: tensor([0.5, -4]) } };
  const { look } = await training.next(await training.init(start), { x });
  // By hand: outputs, then the gradients of their mean square.
  const y = [[1 * 1 - 2 * 3 + 3 * 0.5 + 0.5, 1 * 2 + 2 * 1 + 3 * 1 - 4], [0.5 + 3 + 1 + 0.5, 1 - 1 + 2 - 4]];
  const rows = [[1, -2, 3], [0.5, 1, 2]];
  const dW = [0, 1, 2].flatMap((k) =>
    [0, 1].map((c) => [0, 1].reduce((s, r) => s + rows[r][k] * y[r][c] / 2, 0))
  );
  const db = [0, 1].map((c) => (y[0][c] + y[1][c]) / 2), all = [...dW, ...db];
  const norm = all.reduce((s, g) => s + Math.abs(g), 0), weights = [1, 2, 3, -1, 0.5, 1, 0.5, -4];
  const seen = Object.fromEntries(Object.entries(look!.readings).map(([name, { a }]) => [name, a[0]]));
  assertAlmostEquals(seen.gradNorm, norm, 1e-5);
  assertAlmostEquals(seen.average, norm / 8, 1e-5);
  assertAlmostEquals(seen.peak, Math.max(...all.map(Math.abs)), 1e-5);
  assertAlmostEquals(seen.slope, all.reduce((s, g, i) => s + g * weights[i], 0), 1e-5);
  assertAlmostEquals(seen.activationNorm, Math.hypot(...y.flat()), 1e-5);
});

Deno.test("a signal of accumulated batches is that of one large batch, activations included", async () => {
  const signals = [trust, turn, energy, peak, "activationNorm"] as const, [one, two] = pairs(2);
  const whole = {
    x: tensor([
      ...(one.x.attrs as { data: Float32Array }).data,
      ...(two.x.attrs as { data: Float32Array }).data,
    ], [8, 4]),
    y: tensor([
      ...(one.y.attrs as { data: Float32Array }).data,
      ...(two.y.attrs as { data: Float32Array }).data,
    ], [8, 4]),
  };
  const looks = [];
  for (const [batch, accumulate] of [[whole, 1], [[one, two], 2]] as const) {
    const training = define({ policy: scheduled([], signals), accumulate });
    let state = await training.init(newMlp());
    for (let i = 0; i < 2; i++) state = await training.next(state, batch as typeof whole);
    looks.push(state.look!.readings);
  }
  for (const [name, readings] of Object.entries(looks[0])) {
    for (const [path, [value]] of Object.entries(readings)) {
      assertAlmostEquals(looks[1][name][path][0], value, 1e-5 * Math.abs(value), `${name} of ${path}`);
    }
  }
});

Deno.test("a signal is absent while its component is frozen, probes read what gradient and weight make, and all begin anew at a thaw", async () => {
  const base = scheduled([{ from: 2, frozen: ["bottom"] }, { from: 5, frozen: [] }], [
    trust,
    turn,
    slope,
    peak,
  ]);
  const training = define({
    steps: 7,
    policy: { ...base, probed: (step) => (step as number) >= 3 ? ["bottom"] : [] },
  });
  let state = await training.init(newMlp());
  const seen: Record<string, readonly boolean[]> = {};
  for (const batch of pairs(7)) {
    state = await training.next(state, batch);
    const { trust, turn, slope, peak } = state.look!.readings;
    seen[state.step] = [trust, turn, slope, peak].map(({ bottom }) => Number.isFinite(bottom[0]));
    assert(Number.isFinite(trust.top[0]));
  }
  assertEquals(seen, {
    1: [true, false, true, true],
    2: [true, true, true, true],
    3: [false, false, false, false],
    4: [false, false, true, true],
    5: [false, false, true, true],
    6: [true, false, true, true],
    7: [true, true, true, true],
  });
});

Deno.test("a run with signals of its own goes on from a checkpoint between two looks with the bits of an undisturbed one", async () => {
  const policy = smooth(0.5, allOf(below(trust, 0.2), below(turn, 1e-9))), batches = pairs(6);
  const fileSystem = memoryFileSystem(), path = "state.safetensors";
  const whole = define({ policy, lookEvery: 3 });
  const expected = await advance(whole, await whole.init(newMlp()), { to: 6, batches });
  const first = define({ policy, lookEvery: 3 });
  await saveCheckpoint(gpu, await advance(first, await first.init(newMlp()), { to: 2, batches }), {
    path,
    fileSystem,
  });
  const second = define({ policy, lookEvery: 3 });
  const resumed = await second.resume(await loadCheckpoint(path, { fileSystem }));
  const last = await advance(second, resumed as Awaited<ReturnType<typeof second.init>>, { to: 6, batches });
  assertEquals(await bitsOf(gpu, last), await bitsOf(gpu, expected));
  assertEquals(Object.keys(last.look!.readings), ["trust", "turn"]);
  assertEquals([last.policy, last.frozen], [expected.policy, expected.frozen]);
});

Deno.test("policies read a signal by what defines it or by its name, and thresholds take one as a metric", async () => {
  const seen: number[][] = [];
  const reader = definePolicy({
    name: "reader",
    signals: [trust],
    init: (): number => 0,
    next: (n, now) => (seen.push([now.read(trust, "top"), now.read("trust", "top")]), n + 1),
    frozen: () => [],
  });
  await readingsOf([], { policy: reader });
  assertEquals(seen.map(([a, b]) => a === b && a > 0), [true, true, true]);
  const policy = gradES({ tau: 0.5, metric: trust, alpha: 0, components: "*" });
  assertEquals(policy.name, "only(*, untilFrozen(sticky(after(0, below(trust, 0.5)))))");
  const training = define({ policy: only("bottom", thaw(below(trust, 10))) });
  const state = await training.next(await training.init(newMlp()), pairs(1)[0]);
  assertEquals([state.frozen, state.event!.reasons.bottom.signal], [["bottom"], "trust"]);
});

Deno.test("defineSignal and training name what is wrong with a signal", async () => {
  assertThrows(
    () => defineSignal({ name: "gradNorm", measure: () => null }),
    InputError,
    "a built-in signal has that name",
  );
  assertThrows(() => defineSignal({ name: "", measure: () => null }), InputError, '"name" must be text');
  assertThrows(
    () => defineSignal({ name: "x", measure: 3 as never }),
    InputError,
    '"measure" must be a function',
  );
  const refused = (
    signals: readonly AnySignal[],
    optimizer: Optimizer = adamW({ learningRate: 0.1 }),
  ): string => assertThrows(() => define({ policy: scheduled([], signals), optimizer }), InputError).message;
  assertEquals(
    refused([trust, defineSignal({ name: "trust", measure: ({ update }) => sum(update) })]),
    'Cannot measure "trust" for "scheduled" as another signal has that name; define it once, outside of the function that makes the policy',
  );
  assert(refused(["trust" as never]).endsWith("activationNorm; one of your own is what defineSignal gives"));
  assert(refused([{ name: "trust", measure: () => null } as never]).startsWith('Cannot measure "trust"'));
  assert(refused([null as never]).includes("the signals are"));
  const speed = defineSignal({
    name: "speed",
    needs: ["momentum"],
    measure: ({ moments }) => sum(moments.momentum),
  });
  assertEquals(
    refused([speed]),
    'Cannot measure "speed" for "scheduled" as it needs "momentum", which "adamW(0.1, weightDecay 0.01)" does not keep: its moments are m (firstMoment), v (secondMoment)',
  );
  const { readings } = await readingsOf([speed], { optimizer: sgd({ learningRate: 0.1, momentum: 0.9 }) });
  assert(Number.isFinite(readings[2].speed.top[0]));
  const fails = async (
    measure: Parameters<typeof defineSignal>[0]["measure"],
    text: string,
  ): Promise<void> => {
    const signal = defineSignal({ name: "odd", measure });
    await assertRejects(() => readingsOf([signal]), InputError, text);
  };
  await fails(
    ({ gradient }) => gradient,
    'of "bottom.weight" as "measure" must give a scalar of what it gets, or null for nothing: it gave a tensor [4, 8]; use sum or mean',
  );
  await fails(() => 3 as never, "it gave a number");
  await fails(() => tensor([3], []), "it gave a constant");
  await fails(({ moments }) => sum(moments.firstMoment), '"needs" is []; add "firstMoment"');
});

for (const precision of ["f32", "f16"] as const) {
  Deno.test({
    name:
      `activationNorm of outputs whose squares are beyond f16 is theirs, of all accumulated batches: ${precision}`,
    ignore: precision === "f16" && !gpu.features.has("shader-f16"),
    async fn() {
      const x = tensor(Float32Array.from({ length: 16 }, (_, i) => 1500 * Math.sin(i * 1.3)), [4, 4]);
      const batch = { x, y: tensor(new Float32Array(16), [4, 4]) }, start = newMlp();
      const [inputs, weight] = await readAll(gpu, [x, start.bottom.weight]);
      const squares = Array.from(
        { length: 32 },
        (_, i) => [0, 1, 2, 3].reduce((s, k) => s + inputs[(i >> 3) * 4 + k] * weight[k * 8 + i % 8], 0) ** 2,
      );
      const norm = Math.sqrt(squares.reduce((a, b) => a + b));
      for (const accumulate of [1, 2]) {
        const training = defineTraining(
          gpu,
          (params: Mlp, batch: Pairs) => multiply(mlpLoss(params, batch), 1e-9),
          {
            optimizer: sgd({ learningRate: 0.1 }),
            policy: scheduled([], ["activationNorm"]),
            steps: 1,
            precision,
            accumulate,
          },
        );
        const { look } = await training.next(await training.init(newMlp()), Array(accumulate).fill(batch));
        const seen = look!.readings.activationNorm.bottom[0];
        assertAlmostEquals(seen / Math.sqrt(accumulate) / norm, 1, precision === "f32" ? 1e-5 : 1e-3);
      }
    },
  });
}
