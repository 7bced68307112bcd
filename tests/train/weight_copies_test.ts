/**
 * Copies of weights as f16 that a training keeps from step to step are never stale.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import {
  adamW,
  defineTraining,
  snapshot,
  tensor,
  type Training,
  type TrainingOptions,
  type TrainingState,
} from "@firn/train";
import { bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs, scheduled } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const list = pairs(9);
const bad: Pairs = { ...list[0], x: tensor(new Float32Array(16).fill(NaN), [4, 4]) };

function define(options: Partial<TrainingOptions<Pairs>> = {}): Training<Mlp, Pairs> {
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: adamW({ learningRate: 0.05 }),
    steps: 9,
    lookEvery: 1,
    precision: "f16",
    ...options,
  });
}

/** Takes a step, and compares it with that of a training which has copied all weights anew. */
async function compared(
  training: Training<Mlp, Pairs>,
  { state, batch, options }: {
    readonly state: TrainingState<Mlp>;
    readonly batch: Pairs | readonly Pairs[];
    readonly options?: Partial<TrainingOptions<Pairs>>;
  },
): Promise<TrainingState<Mlp>> {
  const copy = snapshot(gpu, state);
  using other = define(options);
  const next = await training.next(state, batch), twin = await other.next(copy, batch);
  assertEquals(await bitsOf(gpu, next), await bitsOf(gpu, twin), `step ${next.step}`);
  return next;
}

Deno.test("each step multiplies with the weights of the step before, also as weights freeze and thaw", async () => {
  const policy = scheduled([{ from: 2, frozen: ["bottom"] }, { from: 5, frozen: [] }]);
  using training = define({ policy });
  let state = await training.init(newMlp());
  for (const batch of list) state = await compared(training, { state, batch, options: { policy } });
  assertEquals(state.frozen, []);
});

Deno.test("so does a step after one that was taken back, and one of another run", async () => {
  const options = { nonFinite: "rollback", lookEvery: 2 } as const;
  using training = define(options);
  let state = await training.init(newMlp()), other = await training.init(newMlp(7));
  // The first loss that is not finite makes values wider, which starts another plan.
  for (const batch of [list[0], list[1], list[2]]) {
    state = await compared(training, { state, batch, options });
  }
  state = await training.next(state, bad);
  assertEquals([state.step, state.wide], [4, true]);
  state = await compared(training, { state, batch: list[4], options });
  const back = await training.next(state, bad);
  assertEquals([back.step, back.rolledBack?.from], [4, 6]);
  state = await compared(training, { state: back, batch: list[5], options });
  other = await compared(training, { state: other, batch: list[0], options });
  state = await compared(training, { state, batch: list[6], options });
  assertEquals([state.step, other.step], [6, 1]);
});

Deno.test("so do all parts of a step", async () => {
  const options = { accumulate: 2, trainable: (path: string) => path.startsWith("top") };
  for (const own of [{ accumulate: 2 }, options]) {
    using training = define(own);
    let state = await training.init(newMlp());
    for (let at = 0; at < 6; at += 2) {
      const parts = list.slice(at, at + 2);
      state = await compared(training, { state, batch: parts, options: own });
    }
  }
});

Deno.test({
  name: "so does a step after a profile",
  ignore: !gpu.features.has("timestamp-query"),
  async fn() {
    using training = define();
    let state = await training.init(newMlp());
    for (const batch of list.slice(0, 3)) {
      state = await compared(training, { state, batch });
      const names = (await training.profile(state)).map(({ name }) => name);
      assertEquals(names.filter((name) => /^f16 /.test(name)), []);
    }
  },
});

Deno.test("a training makes the copies of all weights once: later steps submit as often as with f32", async () => {
  const submits = async (options: Partial<TrainingOptions<Pairs>>): Promise<number[]> => {
    using training = define({ lookEvery: 9, ...options });
    let state = await training.init(newMlp());
    const seen: number[] = [];
    for (const batch of list.slice(0, 4)) {
      const before = gpu.counts.submits;
      state = await training.next(state, batch);
      seen.push(gpu.counts.submits - before);
    }
    return seen;
  };
  const [half, wide] = [await submits({}), await submits({ precision: "f32" })];
  assertEquals(half.slice(1), wide.slice(1));
});
