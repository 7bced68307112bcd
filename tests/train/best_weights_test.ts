/** Stopping, and ending with the parameters of the best step. */

import { assertEquals, assertRejects } from "@std/assert";
import {
  adamW,
  defineTraining,
  type FreezePolicy,
  InputError,
  type Json,
  type Path,
  snapshot,
  type Training,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { bits, bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs, valuesOf } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 8;
const batches = pairs(STEPS);

/** What a policy wants from a step on. */
interface Wish {
  readonly from: number;
  readonly best?: number | null;
  readonly frozen?: readonly Path[];
  readonly stopped?: boolean;
}

/** A policy that decides by the clock; each wish holds until another is made. */
function scripted(wishes: readonly Wish[]): FreezePolicy {
  const latest = <K extends keyof Wish>(step: Json, key: K): Wish[K] | undefined =>
    wishes.findLast((wish) => wish.from <= (step as number) && wish[key] !== undefined)?.[key];
  return {
    name: "scripted",
    signals: [],
    init: () => 0,
    next: (_, look) => look.steps.at(-1)!,
    frozen: (step) => latest(step, "frozen") ?? [],
    stopped: (step) => latest(step, "stopped") ?? false,
    best: (step) => latest(step, "best") ?? null,
  };
}

function define(wishes: readonly Wish[], lookEvery = 1): Training<Mlp, Pairs> {
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: adamW({ learningRate: 0.05 }),
    steps: STEPS,
    lookEvery,
    policy: scripted(wishes),
  });
}

interface Taken {
  readonly state: TrainingState<Mlp>;
  readonly bits: Readonly<Record<Path, readonly number[]>>;
}

/** What is known after each step; `[0]` is the start. */
async function run(training: Training<Mlp, Pairs>): Promise<Taken[]> {
  let state = await training.init(newMlp());
  const taken = [{ state, bits: await bitsOf(gpu, state) }];
  while (!state.done) {
    state = await training.next(state, batches[state.step]);
    taken.push({ state, bits: await bitsOf(gpu, state) });
  }
  return taken;
}

const weights = ({ bits }: Taken): unknown => [bits["bottom.weight"], bits["top.weight"]];
const copies = ({ state }: Taken): Path[] =>
  [...state.leaves.keys()].filter((path) => path.startsWith("best."));
const BOTH = ["best.bottom.weight", "best.top.weight"];

Deno.test("next ends with the parameters of the best step, and says so", async () => {
  const taken = await run(define([{ from: 3, best: 3 }]));
  assertEquals(taken.map(copies), [[], [], [], BOTH, BOTH, BOTH, BOTH, BOTH, []]);
  const last = taken.at(-1)!;
  assertEquals(weights(last), weights(taken[3]));
  assertEquals(last.state.ending, { reason: "steps", step: STEPS, best: 3 });
  assertEquals(taken.map(({ state }) => state.best), [null, null, null, 3, 3, 3, 3, 3, 3]);
  assertEquals(taken.slice(0, -1).every(({ state }) => state.ending === null && !state.done), true);
});

Deno.test("next ends with the last parameters where the policy names no best step", async () => {
  const taken = await run(define([{ from: 3, best: 3 }, { from: 6, best: null }]));
  assertEquals(taken.map((t) => copies(t).length), [0, 0, 0, 2, 2, 2, 0, 0, 0]);
  assertEquals(taken.at(-1)!.state.ending, { reason: "steps", step: STEPS, best: null });
  assertEquals(weights(taken.at(-1)!), weights((await run(define([]))).at(-1)!));
});

Deno.test("next takes over a better step in the buffers of the one before", async () => {
  const training = define([{ from: 2, best: 2 }, { from: 4, best: 4 }, { from: 6, best: 6 }]);
  let state = await training.init(newMlp());
  while (state.step < 3) state = await training.next(state, batches[state.step]);
  const { buffers } = gpu.counts, expected: unknown[] = [];
  while (!state.done) {
    state = await training.next(state, batches[state.step]);
    if (state.step === 6) expected.push(bits((await valuesOf(gpu, state.params)).get("top.weight")!));
  }
  assertEquals(gpu.counts.buffers, buffers);
  assertEquals([bits((await valuesOf(gpu, state.params)).get("top.weight")!)], expected);
});

Deno.test("next copies nothing when the best step is the last", async () => {
  const taken = await run(define([{ from: STEPS, best: STEPS }]));
  assertEquals(taken.flatMap(copies), []);
  assertEquals(weights(taken.at(-1)!), weights((await run(define([]))).at(-1)!));
  assertEquals(taken.at(-1)!.state.ending!.best, STEPS);
});

Deno.test("next keeps no copy of what is frozen since the best step, and makes one as that thaws", async () => {
  const taken = await run(define([
    { from: 2, frozen: ["bottom"] },
    { from: 3, best: 3 },
    { from: 5, frozen: [] },
  ]));
  const top = ["best.top.weight"], both = [...top, "best.bottom.weight"];
  assertEquals(taken.map(copies), [[], [], [], top, top, both, both, both, []]);
  assertEquals(weights(taken.at(-1)!), weights(taken[3]));
});

Deno.test("next keeps the copy of what freezes after the best step", async () => {
  const taken = await run(define([{ from: 3, best: 3 }, { from: 5, frozen: ["bottom"] }]));
  assertEquals(taken.map(copies), [[], [], [], BOTH, BOTH, BOTH, BOTH, BOTH, []]);
  assertEquals(weights(taken.at(-1)!), weights(taken[3]));
});

Deno.test("next lets go of the copy of what is frozen as another step becomes the best", async () => {
  const taken = await run(
    define([{ from: 2, best: 2 }, { from: 4, frozen: ["bottom"] }, { from: 6, best: 6 }]),
  );
  const top = ["best.top.weight"];
  assertEquals(taken.map(copies), [[], [], BOTH, BOTH, BOTH, BOTH, top, top, []]);
  assertEquals(weights(taken.at(-1)!), weights(taken[6]));
});

Deno.test("next ends when the policy stops, and refuses to go on", async () => {
  for (const best of [undefined, 3]) {
    const training = define([{ from: 3, best }, { from: 5, stopped: true, frozen: ["top"] }]);
    const taken = await run(training), { state } = taken.at(-1)!;
    assertEquals([state.step, state.done], [5, true]);
    assertEquals(state.ending, { reason: "stopped", step: 5, best: best ?? null });
    assertEquals(state.event!.after.launches, 0);
    assertEquals(weights(taken.at(-1)!), weights(best === undefined ? taken[5] : taken[3]));
    await assertRejects(
      () => training.next(state, batches[5]),
      InputError,
      "Cannot take step 6 as the policy ended training after step 5: stop when state.done is true",
    );
  }
});

Deno.test("next refuses to go on from the parameters of the best step", async () => {
  const training = define([{ from: 3, best: 3 }]);
  const { state } = (await run(training)).at(-1)!;
  await assertRejects(
    () => training.next(state, batches[0]),
    InputError,
    "Cannot take step 9 as training ended after step 8 with the parameters of step 3: stop when state.done is true",
  );
});

Deno.test("next says that everything is frozen, and still ends with the best step", async () => {
  const taken = await run(define([{ from: 3, best: 3 }, { from: 5, frozen: ["bottom", "top"] }]));
  assertEquals(taken.at(-1)!.state.ending, { reason: "frozen", step: 5, best: 3 });
  assertEquals(weights(taken.at(-1)!), weights(taken[3]));
});

Deno.test("next refuses a best step whose parameters are gone", async () => {
  await assertRejects(
    () => run(define([{ from: 4, best: 3 }], 2)),
    InputError,
    'Cannot keep the parameters of step 3 as "scripted" must call a step the best at its own look: the look is that of step 4',
  );
});

Deno.test("resume ends with the parameters of the best step, from wherever it goes on", async () => {
  const wishes = [{ from: 2, frozen: ["bottom"] }, { from: 3, best: 3 }, { from: 5, frozen: [] }];
  const expected = (await run(define(wishes))).at(-1)!;
  const folder = await Deno.makeTempDir();
  for (const at of [3, 4, 5, 6, STEPS]) {
    const first = define(wishes), path = `${folder}/${at}.safetensors`;
    let state = await first.init(newMlp());
    while (state.step < at) state = await first.next(state, batches[state.step]);
    await saveCheckpoint(gpu, state, { path });
    const second = define(wishes);
    state = await second.resume(await loadCheckpoint(path));
    assertEquals([state.best, state.done], [3, at === STEPS]);
    while (!state.done) state = await second.next(state, batches[state.step]);
    assertEquals([await bitsOf(gpu, state), state.ending], [expected.bits, expected.state.ending]);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("resume knows that a policy stopped, and refuses a state without its best parameters", async () => {
  const wishes = [{ from: 3, best: 3 }, { from: 5, stopped: true }];
  const folder = await Deno.makeTempDir(), path = `${folder}/state.safetensors`;
  const training = define(wishes);
  let state = await training.init(newMlp());
  while (state.step < 4) state = await training.next(state, batches[state.step]);
  await saveCheckpoint(gpu, state, { path });
  const saved = await loadCheckpoint(path);
  const leaves = new Map([...saved.leaves].filter(([name]) => name !== "best.top.weight"));
  await assertRejects(
    () => define(wishes).resume({ ...saved, leaves }),
    InputError,
    'Cannot resume "best.top.weight" as the saved state must have the shape that this training needs',
  );
  state = await training.next(state, batches[4]);
  await saveCheckpoint(gpu, state, { path });
  const resumed = await define(wishes).resume(await loadCheckpoint(path));
  assertEquals([resumed.done, resumed.ending], [true, { reason: "stopped", step: 5, best: 3 }]);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("snapshot copies the best parameters", async () => {
  const training = define([{ from: 2, best: 2 }]);
  let state = await training.init(newMlp());
  while (state.step < 4) state = await training.next(state, batches[state.step]);
  let twin = snapshot(gpu, state);
  while (!state.done) state = await training.next(state, batches[state.step]);
  while (!twin.done) twin = await training.next(twin, batches[twin.step]);
  assertEquals(await bitsOf(gpu, twin), await bitsOf(gpu, state));
});
