import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  adamW,
  defineTraining,
  nextTokenLoss,
  type Path,
  scan,
  type TensorTree,
  type TrainingState,
} from "@firn/train";
import { newModel } from "@firn/train/hub";
import { type FreezePolicy, randomSubset, rotate } from "@firn/train/policies";
import { bitsOf, llamaSource, tokenBatch } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 12, LOOK = 2;

interface Taken {
  readonly state: TrainingState<TensorTree>;
  readonly bits: Readonly<Record<Path, readonly number[]>>;
}

const model = await newModel(gpu, { source: llamaSource({ layers: 2, tied: false }), seed: 1 });

/** Trains the tiny model; `run[step - 1]` is what is known after a step. */
async function train(policy: FreezePolicy): Promise<Taken[]> {
  const training = defineTraining(gpu, nextTokenLoss(model), {
    optimizer: adamW({ learningRate: 0.01 }),
    policy,
    steps: STEPS,
    lookEvery: LOOK,
  });
  const batches = Array.from({ length: STEPS }, (_, i) => tokenBatch([2, 8], i + 1));
  const run: Taken[] = [];
  for await (const state of scan(training, await training.init(model.params), batches)) {
    run.push({ state, bits: await bitsOf(gpu, state) });
  }
  return run;
}

function partsOf(taken: Taken, component: Path): Path[] {
  return [`${component}.weight`, `optimizer.m.${component}.weight`, `optimizer.v.${component}.weight`]
    .filter((path) => path in taken.bits);
}

/** What freezing and thawing have to do in training, whatever decides it. */
function assertThaws(run: readonly Taken[]): void {
  assertEquals(run.length, STEPS);
  for (const { state } of run) for (const loss of state.look?.loss ?? []) assert(Number.isFinite(loss));
  const thaws = run.flatMap(({ state }) => state.event?.thawed ?? []);
  assert(thaws.length > 0, "nothing thawed");
  run.forEach((now, i) => {
    for (const component of now.state.event?.thawed ?? []) {
      const [weight, ...moments] = partsOf(now, component);
      assertEquals(moments.length, 2, component);
      for (const moment of moments) assert(now.bits[moment].every((bit) => bit === 0), moment);
      // Frozen since the look before it thawed; moved by the step after.
      assertEquals(now.bits[weight], run[i - LOOK].bits[weight], weight);
      if (i + 1 < run.length) assertNotEquals(run[i + 1].bits[weight], now.bits[weight], weight);
    }
    for (const component of now.state.frozen) assertEquals(partsOf(now, component), [`${component}.weight`]);
  });
}

Deno.test("training under rotate has one block at a time move, and thaws with empty moments", async () => {
  const run = await train(rotate({ every: 4, always: (c) => c.layer === null }));
  assertThaws(run);
  // Until the first look everything trains; then the turns of four steps begin at steps 0, 4 and 8.
  const layers = (paths: readonly Path[]) => [...new Set(paths.map((path) => path.split(".")[2]))];
  const events = run.flatMap(({ state }) => state.event ?? []);
  assertEquals(events.map(({ step, frozen, thawed }) => [step, layers(frozen), layers(thawed)]), [
    [2, ["1"], []],
    [4, ["0"], ["1"]],
    [8, ["1"], ["0"]],
    [12, ["0"], ["1"]],
  ]);
  assertEquals(run.at(-1)!.state.done, true);
});

Deno.test("training under randomSubset thaws with empty moments, and gives one seed the same bits", async () => {
  const policy = randomSubset({ share: 0.5, every: 4, seed: 3 });
  const run = await train(policy);
  assertThaws(run);
  // 18 components in two layers, 9 linear maps and norms each, an embedding, a last norm and a head.
  assertEquals(run.map(({ state }) => state.frozen.length), [0, ...new Array(STEPS - 1).fill(10)]);
  assertEquals((await train(policy)).at(-1)!.bits, run.at(-1)!.bits);
});
