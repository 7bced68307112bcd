import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  adamW,
  add,
  chain,
  clipByGlobalNorm,
  ConsumedError,
  defineTraining,
  evaluate,
  type FreezePolicy,
  InputError,
  type Json,
  type Look,
  mean,
  multiply,
  NonFiniteError,
  type Path,
  read,
  scan,
  type Signal,
  snapshot,
  type Tensor,
  tensor,
  type Training,
  type TrainingOptions,
  type TrainingState,
} from "@firn/train";
import { keepActive, patience, untilFrozen } from "@firn/train/policies";
import { bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs, scheduled, valuesOf } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const SIGNALS: readonly Signal[] = ["gradNorm", "gradDelta", "weightDelta"];
const optimizer = chain(clipByGlobalNorm(0.5), adamW({ learningRate: 0.05 }));

function define(options: Partial<TrainingOptions> = {}): Training<Mlp, Pairs> {
  return defineTraining(gpu, mlpLoss, { optimizer, steps: 5, ...options });
}

async function run(
  training: Training<Mlp, Pairs>,
  batches: readonly Pairs[],
): Promise<{ last: TrainingState<Mlp>; looks: Look[] }> {
  let last = await training.init(newMlp());
  const looks: Look[] = [];
  for await (const state of scan(training, last, batches)) {
    last = state;
    if (state.look !== null) looks.push(state.look);
  }
  return { last, looks };
}

/** Every method by which a step could make something or wait, counted at the prototypes. */
function countCalls(): { readonly calls: Record<string, number>; [Symbol.dispose](): void } {
  const calls: Record<string, number> = {};
  const undo: (() => void)[] = [];
  for (const { prototype } of [GPUDevice, GPUQueue, GPUBuffer]) {
    for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
      if (typeof property.value !== "function" || name === "constructor") continue;
      const counted = function (this: unknown, ...args: unknown[]): unknown {
        calls[name] = (calls[name] ?? 0) + 1;
        return property.value.apply(this, args);
      };
      Object.defineProperty(prototype, name, { ...property, value: counted });
      undo.push(() => Object.defineProperty(prototype, name, property));
    }
  }
  return { calls, [Symbol.dispose]: () => undo.forEach((f) => f()) };
}

Deno.test("next creates nothing, submits once and waits for nothing in a steady step", async () => {
  const training = define({ steps: 20, lookEvery: 4, policy: scheduled([], SIGNALS) });
  const batches = pairs(8);
  let state = await training.init(newMlp());
  // A look too, as the first makes the buffer that it is read through.
  for (const batch of batches.slice(0, 4)) state = await training.next(state, batch);
  for (const batch of batches.slice(4, 7)) {
    using counter = countCalls();
    state = await training.next(state, batch);
    // The scalars of the step and two batch entries.
    assertEquals(counter.calls, { writeBuffer: 3, createCommandEncoder: 1, submit: 1 });
  }
  using counter = countCalls();
  await training.next(state, batches[7]);
  assertEquals(counter.calls, {
    writeBuffer: 3,
    createCommandEncoder: 2,
    submit: 2,
    mapAsync: 1,
    getMappedRange: 1,
    unmap: 1,
  });
});

Deno.test("next gives the same bits in every run", async () => {
  const training = define({ policy: scheduled([], SIGNALS) });
  const first = await run(training, pairs(5)),
    second = await run(define({ policy: scheduled([], SIGNALS) }), pairs(5));
  assertEquals(await bitsOf(gpu, second.last), await bitsOf(gpu, first.last));
  assertEquals(second.looks, first.looks);
});

Deno.test("lookEvery changes neither weights nor readings", async () => {
  const policy = scheduled([], SIGNALS);
  const often = await run(define({ policy, lookEvery: 1 }), pairs(5));
  const seldom = await run(define({ policy, lookEvery: 5 }), pairs(5));
  assertEquals([often.looks.length, seldom.looks.length], [5, 1]);
  assertEquals(await valuesOf(gpu, often.last.params), await valuesOf(gpu, seldom.last.params));
  const [whole] = seldom.looks;
  assertEquals(often.looks.flatMap(({ steps }) => steps), [...whole.steps]);
  assertEquals(often.looks.flatMap(({ loss }) => loss), [...whole.loss]);
  assertEquals(often.looks.flatMap(({ learningRate }) => learningRate), [...whole.learningRate]);
  for (const signal of SIGNALS) {
    for (const path of ["bottom", "top"]) {
      const joined = often.looks.flatMap(({ readings }) => readings[signal]![path]);
      assertEquals(joined, [...whole.readings[signal]![path]], `${signal} of ${path}`);
    }
  }
});

Deno.test("next delivers what is left at the last step, though no look is due", async () => {
  const { looks } = await run(define({ lookEvery: 3 }), pairs(5));
  assertEquals(looks.map(({ steps }) => steps), [[1, 2, 3], [4, 5]]);
});

Deno.test("next refuses to take a step of one state twice, also before the first has ended", async () => {
  const training = define();
  const [batch] = pairs(1);
  for (let round = 0; round < 2; round++) {
    const start = await training.init(newMlp());
    const [first, second] = await Promise.allSettled([
      training.next(start, batch),
      training.next(start, batch),
    ]);
    assertEquals([first.status, second.status], ["fulfilled", "rejected"]);
    assert((second as PromiseRejectedResult).reason instanceof ConsumedError);
    const { value } = first as PromiseFulfilledResult<TrainingState<Mlp>>;
    const alone = await training.next(await training.init(newMlp()), batch);
    assertEquals(await valuesOf(gpu, value.params), await valuesOf(gpu, alone.params));
  }
});

Deno.test("next plans again for a batch of another shape", async () => {
  const training = define();
  let state = await training.init(newMlp());
  for (const [batch] of [pairs(1, 4), pairs(1, 2), pairs(1, 4)]) {
    const values = await valuesOf(gpu, state.params);
    const params: Mlp = {
      bottom: { weight: tensor(values.get("bottom.weight")!, [4, 8]) },
      top: { weight: tensor(values.get("top.weight")!, [8, 4]) },
    };
    const [expected] = await read(gpu, mlpLoss(params, batch));
    state = await training.next(state, batch);
    // The same sum of 16 squares in f32, maybe joined in another order.
    assertAlmostEquals((await read(gpu, state.loss!))[0], expected, 1e-6 * expected);
  }
});

Deno.test("next is done when all components are frozen, and refuses to go on", async () => {
  const policy = scheduled([{ from: 2, frozen: ["bottom", "top"] }]);
  const training = define({ policy, lookEvery: 2 });
  const { last } = await run(training, pairs(5));
  assertEquals([last.step, last.done], [2, true]);
  assertEquals(last.event!.frozen, ["bottom", "top"]);
  assertEquals(last.event!.after.launches, 0);
  await assertRejects(
    () => training.next(last, pairs(1)[0]),
    InputError,
    "Cannot take step 3 as all components are frozen: stop when state.done is true",
  );
});

Deno.test("next stays done beyond the last step", async () => {
  const training = define({ steps: 2, lookEvery: 3 });
  let { last } = await run(training, pairs(5));
  for (const step of [3, 4]) {
    last = await training.next(last, pairs(1)[0]);
    assertEquals([last.done, last.ending], [true, { reason: "steps", step, best: null }]);
  }
});

Deno.test("next throws NonFiniteError with the first step whose loss was not finite", async () => {
  const batches = pairs(5);
  const x = tensor(new Float32Array(16).fill(NaN), [4, 4]);
  const error = await assertRejects(
    () => run(define({ lookEvery: 4 }), batches.with(1, { ...batches[1], x })),
    NonFiniteError,
    "Cannot go on training as the loss of step 2 is NaN",
  );
  assertEquals(error.step, 2);
});

Deno.test("next consumes the given state where the policy throws: a snapshot from before the step goes on", async () => {
  const once = scheduled([], SIGNALS);
  let throws = true;
  const policy: FreezePolicy = {
    ...once,
    next(state, look) {
      if (throws) throw new RangeError("not now");
      return once.next(state, look);
    },
  };
  const training = define({ policy, lookEvery: 1 }), [batch] = pairs(1);
  const start = await training.init(newMlp()), kept = snapshot(gpu, start);
  await assertRejects(() => training.next(start, batch), RangeError, "not now");
  throws = false;
  await assertRejects(() => training.next(start, batch), ConsumedError);
  const { last } = await run(define({ policy: once, lookEvery: 1 }), [batch]);
  assertEquals(await bitsOf(gpu, await training.next(kept, batch)), await bitsOf(gpu, last));
});

for (const steps of [0, -1, 1.5, NaN, Infinity]) {
  Deno.test(`defineTraining refuses ${steps} steps`, () => {
    assertThrows(() => define({ steps }), InputError, `"steps" must be a whole number above 0`);
  });
  Deno.test(`defineTraining refuses a look every ${steps} steps`, () => {
    assertThrows(
      () => define({ lookEvery: steps }),
      InputError,
      `"lookEvery" must be a whole number above 0`,
    );
  });
}

Deno.test("init refuses to train nothing and names a parameter", async () => {
  await assertRejects(
    () => define({ trainable: () => false }).init(newMlp()),
    InputError,
    'Cannot train as "trainable" selects no parameter: the first of 2 is "bottom.weight"',
  );
});

Deno.test("next leaves parameters that are not trainable as they are, to the bit", async () => {
  const { last } = await run(define({ trainable: (path) => path.startsWith("top") }), pairs(3));
  const before = await valuesOf(gpu, newMlp()), after = await valuesOf(gpu, last.params);
  assertEquals(after.get("bottom.weight"), before.get("bottom.weight"));
  assertEquals([...last.leaves.keys()].filter((path) => path.includes("bottom")), []);
});

Deno.test("next begins a policy once, also where its state becomes null", async () => {
  let begun = 0;
  const policy: FreezePolicy = {
    ...scheduled([]),
    init: () => ++begun,
    next: () => null,
    frozen: (state) => state === null ? ["bottom"] : [],
  };
  const { last } = await run(define({ policy, lookEvery: 2 }), pairs(5));
  assertEquals([last.policy, last.frozen, begun], [null, ["bottom"], 1]);
});

Deno.test("next refuses a state that is not JSON, as a saved run would go on otherwise, and says where", async () => {
  const states: readonly [state: unknown, seen: string][] = [
    [{ last: { "l.0": [1, NaN] } }, '"last.l.0.1" is NaN'],
    [{ peak: -Infinity }, '"peak" is -Infinity'],
    [{ seen: new Set(["a"]) }, '"seen" is Set'],
    [{ low: undefined }, '"low" is undefined'],
  ];
  for (const [state, seen] of states) {
    for (const first of [true, false]) {
      const policy = {
        ...scheduled([]),
        init: () => first ? state as Json : 0,
        next: () => state as Json,
      };
      const training = define({ policy, lookEvery: 1 });
      const start = await training.init(newMlp());
      await assertRejects(
        () => training.next(start, pairs(1)[0]),
        InputError,
        `Cannot keep the state of "scheduled" as it must be JSON, null where there is no number: ${seen}`,
      );
    }
  }
});

Deno.test("next refuses a policy that freezes no list", async () => {
  const policy = { ...scheduled([]), frozen: () => undefined as unknown as Path[] };
  const training = define({ policy, lookEvery: 1 });
  const start = await training.init(newMlp());
  await assertRejects(
    () => training.next(start, pairs(1)[0]),
    InputError,
    'Cannot freeze by "scheduled" as "frozen" must return a list of paths: got undefined',
  );
});

Deno.test("next does not end training while a wrapper keeps active what its policy would freeze", async () => {
  const all = untilFrozen(scheduled([{ from: 1, frozen: ["bottom", "top"] }]));
  const endings = [all, keepActive("top", all), patience(3, all)].map(async (policy) => {
    const training = define({ policy, lookEvery: 1, steps: 4 });
    let state = await training.init(newMlp());
    for (const batch of pairs(4)) if (!state.done) state = await training.next(state, batch);
    return [state.ending!.step, state.ending!.reason];
  });
  assertEquals(await Promise.all(endings), [[1, "stopped"], [4, "steps"], [3, "stopped"]]);
});

Deno.test("costOf refuses before the first step", async () => {
  const training = define();
  await training.init(newMlp());
  assertThrows(() => training.costOf([]), InputError, "Cannot tell the cost as no step was taken");
});

Deno.test("next refuses a batch that is computed and names it", async () => {
  const training = define();
  const state = await training.init(newMlp());
  const [batch] = pairs(1);
  await assertRejects(
    () => training.next(state, { ...batch, x: add(batch.x, 1) }),
    InputError,
    'Cannot upload "batch.x" as it must hold values: it is a result of "add"',
  );
});

Deno.test("profile leaves the state as it is, to the bit", async () => {
  const training = define();
  const [first, second] = pairs(2);
  const state = await training.next(await training.init(newMlp()), first);
  if (!gpu.features.has("timestamp-query")) return;
  const before = await bitsOf(gpu, state);
  assert((await training.profile(state)).length > 0);
  assertEquals(await bitsOf(gpu, state), before);
  await training.next(state, second);
});

Deno.test("init refuses a parameter under a name of its own", async () => {
  const params = { ...newMlp(), loss: tensor([1]) };
  await assertRejects(() => define().init(params), InputError, 'Cannot train "loss"');
});

Deno.test("evaluate refuses batches of another shape and ignores what the loss does not read", async () => {
  const params = { w: tensor([1]) };
  const loss = (p: { w: Tensor }, b: { x: Tensor; other: Tensor }): Tensor => mean(multiply(b.x, p.w), 0);
  const batch = (...x: number[]) => ({ x: tensor(x), other: tensor([0]) });
  const batches = [batch(1, 1), batch(5, 7)];
  assertEquals((await evaluate(gpu, { loss, params, batches })).losses, [1, 6]);
  await assertRejects(
    () => evaluate(gpu, { loss, params, batches: [batch(1, 1), batch(5)] }),
    InputError,
    'Cannot apply "evaluate" as "x" must be alike in all batches: got [2] and [1]',
  );
});

Deno.test("next leaves a parameter alone that the loss does not read", async () => {
  const training = defineTraining(
    gpu,
    (p: { w: Tensor; unread: Tensor }, b: { x: Tensor }) => mean(multiply(b.x, p.w), 0),
    {
      optimizer: adamW({ learningRate: 0.1, weightDecay: 0.5 }),
      steps: 2,
    },
  );
  const start = await training.init({ w: tensor([1]), unread: tensor([1]) });
  const { params } = await training.next(start, { x: tensor([1, 2]) });
  assertEquals([...await read(gpu, params.unread)], [1]);
  assert((await read(gpu, params.w))[0] < 1);
});

Deno.test("dispose frees the plan, and another step makes it anew", async () => {
  const training = define();
  const [first, second] = pairs(2);
  const state = await training.next(await training.init(newMlp()), first);
  training[Symbol.dispose]();
  const kept = await training.next(state, second);
  const { last } = await run(define(), [first, second]);
  assertEquals(await bitsOf(gpu, kept), await bitsOf(gpu, last));
});

Deno.test("next plans anew for parameters of another shape", async () => {
  const training = defineTraining(gpu, (p: { w: Tensor }, b: { x: Tensor }) => mean(multiply(b.x, p.w), 0), {
    optimizer: adamW({ learningRate: 0.1 }),
    steps: 2,
  });
  for (const width of [1, 2]) {
    const start = await training.init({ w: tensor(new Array(width).fill(1)) });
    const { params } = await training.next(start, { x: tensor([1, 2]) });
    const weights = [...await read(gpu, params.w)];
    assertEquals([weights.length, weights.every((w) => w < 1)], [width, true]);
  }
});
