/** Frozen components that are measured, and why components are frozen. */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  flatten,
  type FreezePolicy,
  grad,
  nextTokenLoss,
  type Path,
  readAll,
  type Reason,
  type Signal,
  tensor,
  type TokenBatch,
  type Training,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import type { LlamaParams } from "@firn/train/models";
import { newModel } from "@firn/train/hub";
import {
  bitsOf,
  llamaSource,
  type Mlp,
  mlpLoss,
  newMlp,
  type Pairs,
  pairs,
  scheduled,
  tokenBatch,
  valuesOf,
} from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 8;
const batches = pairs(STEPS);
const SIGNALS: readonly Signal[] = ["gradNorm", "gradSquare", "gradDelta", "weightDelta", "firstMoment"];
const clipped = chain(clipByGlobalNorm(0.1), adamW({ learningRate: 0.05 }));

/** Freezes at step 2, and probes at some steps. */
function probing(
  frozen: readonly Path[],
  probed: (step: number) => readonly Path[],
  reason?: (path: Path) => Reason | null,
): FreezePolicy {
  return {
    ...scheduled([{ from: 2, frozen }], SIGNALS),
    probed: (step) => probed(step as number),
    reason: reason && ((_, path) => reason(path)),
  };
}

function define(policy: FreezePolicy): Training<Mlp, Pairs> {
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, { optimizer: clipped, steps: STEPS, lookEvery: 1, policy });
}

async function advance(
  training: Training<Mlp, Pairs>,
  state: TrainingState<Mlp>,
  to: number = STEPS,
): Promise<TrainingState<Mlp>[]> {
  const states = [state];
  while (states.at(-1)!.step < to) {
    states.push(await training.next(states.at(-1)!, batches[states.at(-1)!.step]));
  }
  return states;
}

Deno.test("next measures the gradient of what is probed, and nothing else of it", async () => {
  // `bottom` is frozen by step 2; steps 4 and 5 measure it.
  const training = define(probing(["bottom"], (step) => step === 3 || step === 4 ? ["bottom"] : []));
  let [state] = (await advance(training, await training.init(newMlp()), 2)).slice(-1);
  while (!state.done) {
    const values = await valuesOf(gpu, state.params);
    const params: Mlp = {
      bottom: { weight: tensor(values.get("bottom.weight")!, [4, 8]) },
      top: { weight: tensor(values.get("top.weight")!, [8, 4]) },
    };
    const [g] = await readAll(gpu, grad(mlpLoss(params, batches[state.step]), [params.bottom.weight]));
    state = await training.next(state, batches[state.step]);
    const probed = state.step === 4 || state.step === 5, seen = state.look!.readings;
    if (probed) {
      // Sums of 32 terms in f32, maybe in another order.
      const norm = [...g].reduce((sum, x) => sum + Math.abs(x), 0);
      const square = [...g].reduce((sum, x) => sum + x * x, 0);
      assertAlmostEquals(seen.gradNorm!.bottom[0], norm, 1e-6 * norm);
      assertAlmostEquals(seen.gradSquare!.bottom[0], square, 1e-6 * square);
    }
    for (const signal of SIGNALS) {
      assertEquals(
        Number.isNaN(seen[signal]!.bottom[0]),
        !probed || !signal.startsWith("gradN") && signal !== "gradSquare",
      );
      assert(Number.isFinite(seen[signal]!.top[0]));
    }
    const after = await valuesOf(gpu, state.params);
    assertEquals(after.get("bottom.weight"), values.get("bottom.weight"));
    assertEquals([...state.leaves.keys()].filter((path) => path.includes("bottom")), []);
  }
});

Deno.test("a probe changes no bit of what is active, nor the norm that clipping sees", async () => {
  const model = await newModel<LlamaParams>(gpu, {
    source: llamaSource({ layers: 2, tied: false }),
    seed: 2,
  });
  const frozen = /embed_tokens|layers\.0|layers\.1\.mlp\.up_proj/;
  async function run(probed: RegExp): Promise<Record<string, readonly number[]>> {
    const paths = [...flatten(model.params).keys()].map((path) => path.replace(/\.weight$/, ""));
    const policy = probing(paths.filter((p) => frozen.test(p)), () => paths.filter((p) => probed.test(p)));
    const training = defineTraining<LlamaParams, TokenBatch>(gpu, nextTokenLoss(model), {
      optimizer: clipped,
      steps: 6,
      lookEvery: 2,
      policy,
    });
    let state = await training.init(model.params);
    while (!state.done) state = await training.next(state, tokenBatch([2, 8], state.step));
    assertEquals(state.probed.length, paths.filter((p) => frozen.test(p) && probed.test(p)).length);
    const { ring: _, ...bits } = await bitsOf(gpu, state);
    return bits;
  }
  const without = await run(/^$/);
  for (const probed of [/./, /embed_tokens/, /q_proj|norm/]) assertEquals(await run(probed), without);
});

Deno.test("next plans anew as the probed set changes, which is no event", async () => {
  const training = define(probing(["bottom"], (step) => step >= 4 && step < 6 ? ["bottom"] : []));
  const states = await advance(training, await training.init(newMlp()));
  assertEquals(states.map(({ probed }) => probed.length), [0, 0, 0, 0, 1, 1, 0, 0, 0]);
  assertEquals(states.flatMap(({ event }) => event?.step ?? []), [2]);
  const products = states.slice(1).map(({ cost }) => cost!.matmulFlops);
  const [all, frozen] = products.slice(1, 3);
  // The product for the frozen weight, and the one for what lies between it and the top.
  assertEquals(products, [all, all, frozen, frozen, all, all, frozen, frozen]);
  assert(frozen < all);
  assertEquals(training.costOf(["bottom"], ["bottom"]), states[5].cost);
  assertEquals(training.costOf(["bottom"]), states[4].cost);
});

Deno.test("next leaves alone what is to be probed and not frozen, and ends when all that is active is probed", async () => {
  const training = define(probing(["bottom"], () => ["top", "bottom", "bottom"]));
  const [state] = (await advance(training, await training.init(newMlp()), 3)).slice(-1);
  assertEquals(state.probed, ["bottom"]);
  const all = define(probing(["bottom", "top"], () => ["bottom", "top"]));
  const last = (await advance(all, await all.init(newMlp()), 2)).at(-1)!;
  assertEquals(last.ending, { reason: "frozen", step: 2, best: null });
});

Deno.test("next trains what thaws after a probe with a state of its own", async () => {
  const thawing: FreezePolicy = {
    ...scheduled([{ from: 2, frozen: ["bottom"] }, { from: 5, frozen: [] }], SIGNALS),
    probed: (step) => (step as number) >= 3 ? ["bottom"] : [],
  };
  const probed = define(thawing), plain = define({ ...thawing, probed: undefined });
  const [a] = (await advance(probed, await probed.init(newMlp()))).slice(-1);
  const [b] = (await advance(plain, await plain.init(newMlp()))).slice(-1);
  assertEquals([a.since, a.probed], [{ bottom: 5 }, []]);
  assertEquals(await bitsOf(gpu, a), await bitsOf(gpu, b));
});

Deno.test("resume probes what the saved run does", async () => {
  const policy = probing(["bottom"], (step) => step >= 3 && step < 6 ? ["bottom"] : []);
  const training = define(policy);
  const [expected] = (await advance(training, await training.init(newMlp()))).slice(-1);
  const folder = await Deno.makeTempDir(), path = `${folder}/state.safetensors`;
  const first = define(policy);
  await saveCheckpoint(gpu, (await advance(first, await first.init(newMlp()), 4)).at(-1)!, { path });
  const second = define(policy), state = await second.resume(await loadCheckpoint(path));
  assertEquals(state.probed, ["bottom"]);
  const states = await advance(second, state);
  assert(Number.isFinite(states[1].look!.readings.gradNorm!.bottom[0]));
  assertEquals(await bitsOf(gpu, states.at(-1)!), await bitsOf(gpu, expected));
  await Deno.remove(folder, { recursive: true });
});

Deno.test("next says in the event why components froze, where the policy knows", async () => {
  const why: Reason = { signal: "gradNorm", value: 0.5, threshold: 1, rule: "below(gradNorm, 1)" };
  const training = define(probing(["bottom", "top"], () => [], (path) => path === "bottom" ? why : null));
  const states = await advance(training, await training.init(newMlp()), 2);
  assertEquals(states.at(-1)!.event!.reasons, { bottom: why });
  const silent = define(probing(["bottom"], () => []));
  assertEquals((await advance(silent, await silent.init(newMlp()), 2)).at(-1)!.event!.reasons, {});
});
