/**
 * Optimizers for groups of parameters, alone and in training.
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
  InputError,
  type Leaves,
  linearRate,
  type Optimizer,
  type Path,
  sgd,
  tensor,
  type Training,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { initMoments, partition } from "@firn/train/optim";
import {
  bitsOf,
  type Mlp,
  mlpLoss,
  newMlp,
  type Pairs,
  pairs,
  scheduled,
  untimed,
  valuesOf,
} from "../train/tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 8;
const batches = pairs(STEPS);
const momentum = (learningRate: number): Optimizer => sgd({ learningRate, momentum: 0.9 });
/** The bottom by AdamW without decay, the top by SGD. */
const parted = partition([["bottom.*", adamW({ learningRate: 0.05, weightDecay: 0 })], ["*", momentum(0.1)]]);

function define(
  optimizer: Optimizer,
  policy = scheduled([]),
  precision: "f32" | "f16" = "f32",
): Training<Mlp, Pairs> {
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer,
    steps: STEPS,
    lookEvery: 1,
    policy,
    precision,
  });
}

async function run(
  training: Training<Mlp, Pairs>,
  from?: TrainingState<Mlp>,
  to = STEPS,
): Promise<TrainingState<Mlp>> {
  let state = from ?? await training.init(newMlp());
  while (state.step < to) state = await training.next(state, batches[state.step]);
  return state;
}

const leavesLike = (paths: readonly Path[]): Leaves => new Map(paths.map((path) => [path, tensor([1, 2])]));

Deno.test("partition keeps the moments that the optimizer of each group declares", () => {
  const state = parted.init(leavesLike(["bottom.weight", "top.weight"]));
  assertEquals([...state.keys()], ["m.bottom.weight", "v.bottom.weight", "velocity.top.weight"]);
  const shapes = parted.moments.map(({ name, meaning, complete, shape }) => [
    name,
    meaning,
    complete,
    shape!([1, 2], "bottom.weight"),
    shape!([1, 2], "top.weight"),
  ]);
  assertEquals(shapes, [
    ["m", "firstMoment", false, [1, 2], null],
    ["v", "secondMoment", false, [1, 2], null],
    ["velocity", "momentum", false, null, [1, 2]],
  ]);
  const alike = partition([["a.*", adamW({ learningRate: 1 })], ["*", adamW({ learningRate: 2 })]]);
  assertEquals(alike.moments, adamW({ learningRate: 1 }).moments);
});

Deno.test("partition takes the first group that matches, and * matches dots", () => {
  const optimizer = partition([
    ["a.weight", sgd({ learningRate: 1 })],
    [["a.*", "*.b"], momentum(1)],
    ["*", adamW({ learningRate: 1 })],
  ]);
  const paths = [...optimizer.init(leavesLike(["a.weight", "a.x.y", "deep.er.b", "a+weight", "b"])).keys()];
  assertEquals(paths, ["velocity.a.x.y", "velocity.deep.er.b", "m.a+weight", "v.a+weight", "m.b", "v.b"]);
});

Deno.test("partition refuses a parameter that no group matches, and names it", () => {
  const optimizer = partition([["a.*", sgd({ learningRate: 1 })]]);
  assertThrows(
    () => optimizer.init(leavesLike(["a.weight", "b.weight"])),
    InputError,
    'Cannot train "b.weight" by partition(["a.*"]: sgd(1, momentum 0)) as no group matches it: end with the group "*"',
  );
});

Deno.test("partition refuses groups whose moments of one name differ in meaning", () => {
  const other: Optimizer = { ...momentum(1), moments: [{ name: "m", meaning: "momentum" }] };
  assertThrows(
    () => partition([["a.*", adamW({ learningRate: 1 })], ["*", other]]),
    InputError,
    'keeps "m" with another meaning or type',
  );
});

Deno.test("partition has the learning rate of its last group that has one", () => {
  const rate = linearRate({ peak: 1, steps: 10 });
  const optimizer = partition([["a", sgd({ learningRate: 1 })], ["b", sgd({ learningRate: rate })], [
    "*",
    clipByGlobalNorm(1),
  ]]);
  assert(optimizer.learningRate === rate);
});

Deno.test("next trains each group as its optimizer trains the whole model, to the bit", async () => {
  const [mixed, adam, descent] = await Promise.all(
    [parted, adamW({ learningRate: 0.05, weightDecay: 0 }), momentum(0.1)].map(async (optimizer) => {
      const training = define(optimizer);
      return await bitsOf(gpu, await training.next(await training.init(newMlp()), batches[0]));
    }),
  );
  assertEquals(mixed["bottom.weight"], adam["bottom.weight"]);
  assertEquals(mixed["optimizer.v.bottom.weight"], adam["optimizer.v.bottom.weight"]);
  assertEquals(mixed["top.weight"], descent["top.weight"]);
  assertEquals(mixed["optimizer.velocity.top.weight"], descent["optimizer.velocity.top.weight"]);
});

Deno.test("partition with equal groups is the optimizer itself over a whole run, to the bit, clipped before it", async () => {
  const adam = adamW({ learningRate: 0.05 }), clip = clipByGlobalNorm(0.1);
  const [one, two] = [
    await bitsOf(gpu, await run(define(chain(clip, adam)))),
    await bitsOf(gpu, await run(define(chain(clip, partition([["bottom.*", adam], ["*", adam]]))))),
  ];
  assertEquals(two, one);
});

Deno.test("clipping inside a group sees the gradients of that group alone", async () => {
  const limit = 1e-3, step = sgd({ learningRate: 1 });
  const training = define(partition([["bottom.*", chain(clipByGlobalNorm(limit), step)], ["*", step]]));
  const before = await valuesOf(gpu, newMlp()), free = define(step);
  const [clipped, unclipped] = await Promise.all(
    [training, free].map(async (each) =>
      await valuesOf(gpu, (await each.next(await each.init(newMlp()), batches[0])).params)
    ),
  );
  const moved = clipped.get("bottom.weight")!.map((w, i) => w - before.get("bottom.weight")![i]);
  const norm = Math.hypot(...moved);
  // Weights near 1 are known to 6e-8 each, 32 of them.
  assert(Math.abs(norm - limit) < 1e-6, `the bottom moved by ${norm}`);
  assertEquals(clipped.get("top.weight"), unclipped.get("top.weight"));
});

/** `bottom` is frozen in steps 3 to 5: its whole group is. */
const freezing = scheduled([{ from: 2, frozen: ["bottom"] }, { from: 5, frozen: [] }], ["gradNorm"]);
/** With state that is shared in a group, and stays while all of the group is frozen. */
const sharing = partition([
  ["bottom.*", chain(clipByGlobalNorm(0.1, { over: "all" }), adamW({ learningRate: 0.05 }))],
  ["*", chain(clipByGlobalNorm(0.2, { over: "all" }), momentum(0.1))],
]);

for (const precision of ["f32", "f16"] as const) {
  Deno.test(`next frees the moments of a group that freezes, and keeps its shared state as it is: ${precision}`, async () => {
    const training = define(sharing, freezing, precision), shared = "optimizer.group0/squares";
    let state = await run(training, undefined, 2);
    const before = (await bitsOf(gpu, state))[shared];
    assert(before.some((bits) => bits !== 0));
    const optimizerState = (): Path[] =>
      [...state.leaves.keys()].filter((path) => path.startsWith("optimizer."));
    assertEquals(optimizerState().sort(), [
      shared,
      "optimizer.group1/squares",
      "optimizer.velocity.top.weight",
    ]);
    state = await run(training, state, 5);
    assertEquals((await bitsOf(gpu, state))[shared], before);
    assertEquals(optimizerState().includes("optimizer.m.bottom.weight"), true);
    state = await run(training, state, 6);
    assert((await bitsOf(gpu, state))[shared].join() !== before.join());
  });
}

Deno.test("resume continues a partition as an undisturbed run does, also while a group is frozen", async () => {
  const expected = await bitsOf(gpu, await run(define(sharing, freezing)));
  const path = await Deno.makeTempFile();
  for (const at of [2, 4, 5]) {
    await saveCheckpoint(gpu, await run(define(sharing, freezing), undefined, at), { path });
    const second = define(sharing, freezing);
    assertEquals(
      await bitsOf(gpu, await run(second, await second.resume(await loadCheckpoint(path)))),
      expected,
    );
  }
  await Deno.remove(path);
});

Deno.test("what thaws in a group counts its own updates", async () => {
  const adam = adamW({ learningRate: 0.05 });
  const [one, two] = [
    await bitsOf(gpu, await run(define(adam, freezing))),
    await bitsOf(gpu, await run(define(partition([["bottom.*", adam], ["*", adam]]), freezing))),
  ];
  assertEquals(two, one);
});

/** Adam whose moments have other names and stand in the other order: signals find them by what they mean. */
function renamed(adam: Optimizer): Optimizer {
  const names = new Map([["m", "mean"], ["v", "variance"]]);
  const rename = (leaves: Leaves, from: (name: string) => string): Leaves =>
    new Map([...leaves].map(([path, value]) => {
      const at = path.indexOf(".");
      return [from(path.slice(0, at)) + path.slice(at), value];
    }));
  const back = new Map([...names].map(([a, b]) => [b, a]));
  return {
    ...adam,
    name: `renamed ${adam.name}`,
    moments: adam.moments.map((moment) => ({ ...moment, name: names.get(moment.name)! })).toReversed(),
    init: (params) => rename(adam.init(params), (name) => names.get(name)!),
    next(state, grads, params) {
      const step = adam.next(rename(state, (name) => back.get(name)!), grads, params);
      return { updates: step.updates, state: rename(step.state, (name) => names.get(name)!) };
    },
  };
}

Deno.test("signals of moments are found by their meaning, whatever their names", async () => {
  const policy = scheduled([], ["firstMoment", "secondMoment"]);
  const looks = [];
  for (const optimizer of [adamW({ learningRate: 0.05 }), renamed(adamW({ learningRate: 0.05 }))]) {
    const state = await run(define(optimizer, policy), undefined, 3);
    looks.push(untimed(state.look));
    assert(
      [...flatten(state.params).keys()].every((path) =>
        state.look!.readings.firstMoment![path.split(".")[0]][0] > 0
      ),
    );
  }
  assertEquals(looks[1], looks[0]);
});

Deno.test("training keeps moments of its own where a group keeps none and a policy asks for them", async () => {
  const optimizer = partition([["bottom*", adamW({ learningRate: 0.05 })], [
    "*",
    sgd({ learningRate: 0.1 }),
  ]]);
  const state = await run(define(optimizer, scheduled([], ["firstMoment"])), undefined, 1);
  const whole = await run(
    define(adamW({ learningRate: 0.05 }), scheduled([], ["firstMoment"])),
    undefined,
    1,
  );
  assertEquals(state.look!.readings, whole.look!.readings);
});

Deno.test("partition refuses to have no group", () => {
  assertThrows(() => partition([]), InputError, "there must be a group");
});

Deno.test("what thaws has bias corrections of its own age, whatever the names of the moments", async () => {
  const weights = [];
  for (const optimizer of [adamW({ learningRate: 0.05 }), renamed(adamW({ learningRate: 0.05 }))]) {
    weights.push(await valuesOf(gpu, (await run(define(optimizer, freezing))).params));
  }
  assertEquals(weights[1], weights[0]);
});

Deno.test("a moment of another shape than its parameter is kept, freed when it freezes, and read by no signal", async () => {
  const factored: Optimizer = {
    ...sgd({ learningRate: 0.1 }),
    name: "factored",
    moments: [{ name: "rows", meaning: "secondMoment", shape: ([rows]) => [rows] }],
    init(params) {
      return initMoments(this.moments, params);
    },
    next(state, grads, params) {
      const { updates } = sgd({ learningRate: 0.1 }).next(new Map(), grads, params);
      return { updates, state: new Map([...state]) };
    },
  };
  const training = define(factored, freezing);
  let state = await run(training, undefined, 1);
  assertEquals(state.leaves.get("optimizer.rows.bottom.weight")!.shape, [4]);
  state = await run(training, state, 3);
  assertEquals(state.leaves.has("optimizer.rows.bottom.weight"), false);
  // Its rows are no moment that signals read, so that training keeps its own.
  state = await define(factored, scheduled([], ["secondMoment"])).init(newMlp());
  assert(state.leaves.has("optimizer.meanSquare.bottom.weight"));
});

Deno.test("init refuses an optimizer with state that it does not declare", async () => {
  const undeclared: Optimizer = { ...momentum(0.1), moments: [] };
  await assertRejects(
    () => define(undeclared).init(newMlp()),
    InputError,
    'Cannot train with "sgd(0.1, momentum 0.9)" as its state "velocity.bottom.weight" must be one of its "moments"',
  );
});
