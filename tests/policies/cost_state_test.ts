/** Costs are JSON: a policy can keep them in its state. */

import { assert, assertEquals } from "@std/assert";
import { adamW, type Cost, defineTraining, type TrainingState } from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { type ComponentCost, definePolicy, type Reason } from "../../policies/mod.ts";
import { type Mlp, mlpLoss, newMlp, type Pairs, pairs } from "../train/tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const STEPS = 6;
const batches = pairs(STEPS);

type State = {
  /** Components with what each costs, the dearest gradient first. */
  readonly dearest: readonly { readonly path: string; readonly cost: ComponentCost }[];
  readonly seen: Cost | null;
  readonly reasons: readonly Reason[];
  readonly step: number;
};

/** Freezes the component whose gradient costs most, after three steps: its state holds records of costs. */
const policy = definePolicy<State>({
  name: "freezeDearest",
  init: (components) => ({
    dearest: components.map(({ path, cost }) => ({ path, cost: cost! })).sort((a, b) =>
      b.cost.dW - a.cost.dW
    ),
    seen: { launches: 1, flops: 2, matmulFlops: 2, bytes: 3, memory: 4, constants: 5 },
    reasons: [],
    step: 0,
  }),
  next: (state, { step }) => ({
    ...state,
    step,
    reasons: [{ signal: "dW", value: state.dearest[0].cost.dW, threshold: null, rule: "freezeDearest" }],
  }),
  frozen: ({ dearest, step }) => step >= 3 ? [dearest[0].path] : [],
  reason: ({ reasons }) => reasons[0],
});

Deno.test("a policy keeps the costs of components in its state, through a checkpoint and a resume", async () => {
  await using gpu = await openTestGpu();
  const training = defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: adamW({ learningRate: 0.01 }),
    steps: STEPS,
    lookEvery: 1,
    policy,
  });
  const advance = async (state: TrainingState<Mlp>, to: number): Promise<TrainingState<Mlp>> => {
    let current = state;
    while (current.step < to) current = await training.next(current, batches[current.step]);
    return current;
  };
  const path = await Deno.makeTempFile();
  try {
    const middle = await advance(await training.init(newMlp()), 4);
    await saveCheckpoint(gpu, middle, { path });
    const saved = middle.policy as State;
    const whole = await advance(middle, STEPS);

    const resumed = await training.resume(await loadCheckpoint(path));
    assertEquals(resumed.policy, saved);
    assert((resumed.policy as State).dearest.every(({ cost }) => cost.forward > 0 && cost.depth >= 0));
    const end = await advance(resumed, STEPS);
    assertEquals(end.policy, whole.policy);
    assertEquals(end.frozen, whole.frozen);
    assertEquals(end.frozen, [saved.dearest[0].path]);
  } finally {
    await Deno.remove(path);
  }
});
