/**
 * What the learning rate and the size of a matrix do to readings and to what is decided by them, in real training under
 * AdamW.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  adamW,
  add,
  cosine,
  defineTraining,
  type FreezePolicy,
  linearRate,
  type Look,
  matmul,
  mean,
  multiply,
  type Schedule,
  type Signal,
  subtract,
  type Tensor,
  tensor,
} from "@firn/train";
import { silu } from "@firn/train/ops";
import { gradES, type Normalise, snr } from "@firn/train/policies";
import { normalValues } from "../../kernels/random.ts";
import { ALL_SIGNALS, type Mlp, type Pairs, scheduled } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

/** Values around a mean with a spread, the same for one key. */
function normal([rows, columns]: readonly [number, number], options: Normal): Tensor {
  const { key, mean, spread } = options;
  const values = normalValues({ size: rows * columns, key: [key, 0] }).map((z) => mean + spread * z);
  return tensor(values, [rows, columns]);
}

interface Normal {
  readonly key: number;
  readonly mean: number;
  readonly spread: number;
}

/** What a run read, and what was frozen when it ended. */
interface Seen {
  readonly look: Pick<Look, "readings">;
  /** Step after which each component froze. */
  readonly frozen: { readonly [path: string]: number };
}

/** A task for two matrices; its batches are the same in every run. */
interface Task {
  readonly loss: (params: Mlp, batch: Pairs) => Tensor;
  readonly params: Mlp;
  readonly batch: (step: number) => Pairs;
  readonly steps: number;
}

async function train(
  { loss, params, batch, steps }: Task,
  { rate, policy, weightDecay }: {
    readonly rate: number | Schedule;
    readonly policy: FreezePolicy;
    readonly weightDecay?: number;
  },
): Promise<Seen> {
  using training = defineTraining<Mlp, Pairs>(gpu, loss, {
    optimizer: adamW({ learningRate: rate, weightDecay }),
    policy,
    steps,
    lookEvery: 1,
  });
  let state = await training.init(params);
  const readings: { [S in Signal]?: Record<string, number[]> } = {}, frozen: Record<string, number> = {};
  while (!state.done) {
    state = await training.next(state, batch(state.step + 1));
    for (const [signal, byPath] of Object.entries(state.look!.readings) as [Signal, Values][]) {
      const own = readings[signal] ??= {};
      for (const [path, [value]] of Object.entries(byPath)) (own[path] ??= []).push(value);
    }
    for (const path of state.event?.frozen ?? []) frozen[path] = state.step;
  }
  return { look: { readings }, frozen };
}

type Values = { readonly [path: string]: readonly number[] };

/** Freezes for good by `weightDelta`, from the first step on. */
function byWeightDelta(tau: number, normalise: Normalise): FreezePolicy {
  return gradES({ tau, normalise, metric: "weightDelta", alpha: 0, components: "*", stop: false });
}

const RATE = 1e-3, STEPS = 30, ROWS = 8;

/** Two layers whose targets lie so far away that no step gets near them; each batch has them elsewhere. */
function farTask([wide, inner, out]: readonly [number, number, number]): Task {
  return {
    loss({ bottom, top }, { x, y }) {
      const error = subtract(matmul(silu(matmul(x, bottom.weight)), top.weight), y);
      return mean(multiply(error, error));
    },
    params: {
      bottom: { weight: normal([wide, inner], { key: 1, mean: 0.5, spread: 0.2 }) },
      top: { weight: normal([inner, out], { key: 2, mean: 0.5, spread: 0.2 }) },
    },
    batch: (step) => ({
      x: normal([ROWS, wide], { key: 100 + step, mean: 1, spread: 0.3 }),
      y: normal([ROWS, out], { key: 200 + step, mean: -200 - 100 * Math.sin(step * step), spread: 1 }),
    }),
    steps: STEPS,
  };
}

/** The larger matrix has 8 times as many elements. */
const SHAPES = [
  { large: "bottom", small: "top", shape: [16, 32, 2], sizes: { bottom: 512, top: 64 } },
  { large: "top", small: "bottom", shape: [2, 16, 16], sizes: { bottom: 32, top: 256 } },
] as const;

for (const { large, small, shape, sizes } of SHAPES) {
  const task = farTask(shape);

  Deno.test(`weightDelta of AdamW is the rate times the size, flat while gradients are not, where the ${large} is large`, async () => {
    const seen = await train(task, { rate: RATE, policy: scheduled([], ["weightDelta", "gradNorm"]) });
    const { weightDelta, gradNorm } = seen.look.readings;
    for (const path of [large, small]) {
      assert(Math.max(...gradNorm![path]) > 1.8 * Math.min(...gradNorm![path]), `${gradNorm![path]}`);
      // An update of Adam is the rate times the mean of an element's last gradients over the root mean square of all so
      // far: 1 where they are equal. These spread by a third of their mean, and ten of them average it: 0.86 to 1.01.
      for (const [i, delta] of weightDelta![path].entries()) {
        const updates = delta / (RATE * sizes[path]);
        assert(updates > 0.8 && updates < 1.05, `step ${i + 1} of "${path}": ${updates}`);
      }
    }
    assertEquals(weightDelta![large].every((delta, i) => delta > 7 * weightDelta![small][i]), true);
  });

  Deno.test(`gradES by weightDelta freezes the small ${small} whatever its gradients, and by lr*size both or none`, async () => {
    const frozenBy = async (tau: number, normalise: Normalise): Promise<string[]> =>
      Object.keys((await train(task, { rate: RATE, policy: byWeightDelta(tau, normalise) })).frozen).sort();
    const between = RATE * Math.sqrt(sizes.bottom * sizes.top);
    assertEquals(await frozenBy(between, "none"), [small]);
    // The limits of the readings above, one for both.
    assertEquals(await frozenBy(1.05, "lr*size"), ["bottom", "top"]);
    assertEquals(await frozenBy(0.8, "lr*size"), []);
  });
}

Deno.test("gradES by weightDelta freezes all as the learning rate falls, and by lr*size nothing", async () => {
  const task = farTask([16, 32, 2]), rate = linearRate({ peak: RATE, steps: STEPS });
  const { frozen } = await train(task, { rate, policy: byWeightDelta(RATE * 32, "none") });
  // Half of the small one's readings at the full rate, a sixteenth of the large one's.
  assert(Math.abs(frozen.top - STEPS / 2) <= 3, `top at step ${frozen.top}`);
  assert(frozen.bottom >= STEPS - 3, `bottom at step ${frozen.bottom}`);
  // In the last step the rate is 0, and so is what it is divided by.
  assertEquals((await train(task, { rate, policy: byWeightDelta(0.8, "lr*size") })).frozen, {});
});

const LINEAR_STEPS = 60;

/**
 * A loss linear in the weights, so that gradients are those of the batch whatever the weights: those of `bottom` are
 * noise after a start of 8 steps, those of `top` have a mean of the size of their spread.
 */
const LINEAR: Task = {
  loss: ({ bottom, top }, { x, y }) =>
    add(mean(multiply(matmul(x, bottom.weight), y)), mean(multiply(matmul(x, top.weight), add(y, 1)))),
  params: {
    bottom: { weight: normal([16, 32], { key: 3, mean: 0, spread: 1 }) },
    top: { weight: normal([16, 32], { key: 4, mean: 0, spread: 1 }) },
  },
  batch: (step) => ({
    x: normal([ROWS, 16], { key: 300 + step, mean: 1, spread: 0.3 }),
    y: normal([ROWS, 32], { key: 400 + step, mean: step <= 8 ? 1 : 0, spread: 1 }),
  }),
  steps: LINEAR_STEPS,
};

/** A run of it at a multiple of a rate that falls. Weight decay, which knows the weights, is left out. */
function trainLinear(factor: number, policy: FreezePolicy): Promise<Seen> {
  const falling = cosine({ peak: 0.01, steps: LINEAR_STEPS });
  return train(LINEAR, { rate: (step) => factor * falling(step), policy, weightDecay: 0 });
}

Deno.test("twice the rate on the same gradients doubles what is of the update, and no other signal of the gradients differs by a bit", async () => {
  const signals = ALL_SIGNALS.filter((signal) => signal !== "weightNorm" && signal !== "activationNorm");
  const policy = scheduled([], signals);
  const { look: { readings: once } } = await trainLinear(1, policy);
  const { look: { readings: twice } } = await trainLinear(2, policy);
  for (const signal of signals) {
    // Exactly: a power of two changes no rounding.
    const factor = ["weightDelta", "updateNorm", "benefit"].includes(signal) ? 2 : 1;
    for (const [path, values] of Object.entries(once[signal]!)) {
      assertEquals(twice[signal]![path], values.map((value) => factor * value), `${signal} of ${path}`);
      assertEquals(values.slice(1, -1).every((value) => Math.abs(value) > 0), true, `${signal} of ${path}`);
    }
  }
});

Deno.test("twice the rate on the same gradients changes nothing that snr decides", async () => {
  // So small a share that the rate has to fall before the noise gains less. The loss is linear and means nothing.
  const always = { alpha: 0, watch: 0, left: 1e9, stop: false, components: "*" };
  const policy = snr({ share: 0.01, ...always });
  const { frozen } = await trainLinear(1, policy);
  assertEquals((await trainLinear(2, policy)).frozen, frozen);
  assertEquals(Object.keys(frozen), ["bottom"]);
});

Deno.test("twice the rate on the same gradients changes what gradES decides by weightDelta, and by lr*size nothing", async () => {
  const raw = (tau: number) => byWeightDelta(tau, "none"), normalised = byWeightDelta(0.5, "lr*size");
  const tau = 0.01 * 512 / 4;
  const once = (await trainLinear(1, raw(tau))).frozen;
  const later = (await trainLinear(2, raw(tau))).frozen;
  assertEquals(Object.entries(once).map(([path, step]) => later[path] > step), [true, true]);
  assertEquals((await trainLinear(2, raw(2 * tau))).frozen, once);
  const { frozen } = await trainLinear(1, normalised);
  assertEquals(Object.keys(frozen), ["bottom"]);
  assertEquals((await trainLinear(2, normalised)).frozen, frozen);
});
