import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  ConsumedError,
  cosine,
  DataError,
  defineTraining,
  type FreezePolicy,
  InputError,
  type Json,
  NotFoundError,
  type Optimizer,
  read,
  sgd,
  snapshot,
  type Training,
  type TrainingOptions,
} from "@firn/train";
import { type Checkpoint, loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import {
  advance,
  bitsOf,
  type Mlp,
  mlpLoss,
  newMlp,
  type Pairs,
  pairs,
  scheduled,
  untimed,
  valuesOf,
} from "./tiny.ts";
import { inFolder } from "../data/files.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { earlierSettings } from "../../core/checkpoint/earlier_settings.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 8, LOOK = 3;
const batches = pairs(STEPS);

const OPTIMIZERS: Readonly<Record<string, Optimizer>> = {
  "clipped AdamW": chain(clipByGlobalNorm(0.5), adamW({ learningRate: (step) => 0.1 / step })),
  "clipped momentum": chain(clipByGlobalNorm(0.5), sgd({ learningRate: 0.05, momentum: 0.9 })),
};

/** Freezes the bottom at the look of step 3 and counts the looks, to have a state worth saving. */
const policy: FreezePolicy = {
  ...scheduled([], ["gradNorm", "gradDelta"]),
  name: "counting",
  init: () => ({ looks: 0, norms: [] }),
  next(state, look) {
    const { looks, norms } = state as { looks: number; norms: number[] };
    return { looks: looks + 1, norms: [...norms, ...look.readings.gradNorm!.top] };
  },
  frozen: (state) => (state as { looks: number }).looks >= 1 ? ["bottom"] : [],
};

function define(options: Partial<TrainingOptions> = {}): Training<Mlp, Pairs> {
  return defineTraining(gpu, mlpLoss, {
    optimizer: OPTIMIZERS["clipped AdamW"],
    steps: STEPS,
    lookEvery: LOOK,
    ...options,
  });
}

/** Runs a body with the path of a file that is gone afterwards. */
const withFile = (body: (path: string) => Promise<void>): Promise<void> =>
  inFolder((folder) => body(`${folder}/state.safetensors`));

// With a look every 3 steps and a freeze at step 3: before any step, between looks, right before one, at the one that
// freezes, and between looks after it.
for (const [name, optimizer] of Object.entries(OPTIMIZERS)) {
  for (const at of [0, 1, 2, 3, 4, 6]) {
    Deno.test(`resume from step ${at} ends with the bits of an undisturbed run, ${name}`, async () => {
      const undisturbed = define({ optimizer, policy });
      const expected = await advance(undisturbed, await undisturbed.init(newMlp()), { to: STEPS, batches });
      await withFile(async (path) => {
        const first = define({ optimizer, policy });
        await saveCheckpoint(gpu, await advance(first, await first.init(newMlp()), { to: at, batches }), {
          path,
        });
        const second = define({ optimizer, policy });
        const last = await advance(second, await second.resume(await loadCheckpoint(path)), {
          to: STEPS,
          batches,
        });
        assertEquals(await bitsOf(gpu, last), await bitsOf(gpu, expected));
        assertEquals([last.policy, last.frozen], [expected.policy, ["bottom"]]);
        assertEquals(untimed(last.look), untimed(expected.look));
        assertEquals((last.policy as { looks: number }).looks, 3);
      });
    });
  }
}

Deno.test("saveCheckpoint keeps step, policy, frozen set and what is put beside them", async () => {
  await withFile(async (path) => {
    const training = define({ policy });
    const state = await advance(training, await training.init(newMlp()), { to: 4, batches });
    await saveCheckpoint(gpu, state, { path, extra: { seed: 7, text: "\u00e9" } });
    const saved = await loadCheckpoint(path);
    assertEquals([saved.step, saved.frozen, saved.policy], [4, ["bottom"], state.policy]);
    assertEquals(saved.extra, { seed: 7, text: "\u00e9" });
  });
});

Deno.test("resume knows that a finished run is done", async () => {
  const training = define();
  const last = await advance(training, await training.init(newMlp()), { to: STEPS, batches });
  await withFile(async (path) => {
    await saveCheckpoint(gpu, last, { path });
    assertEquals((await define().resume(await loadCheckpoint(path))).done, true);
  });
});

Deno.test("resume knows that a run with everything frozen is done", async () => {
  const all = scheduled([{ from: 3, frozen: ["bottom", "top"] }]);
  const training = define({ policy: all });
  const last = await advance(training, await training.init(newMlp()), { to: 3, batches });
  await withFile(async (path) => {
    await saveCheckpoint(gpu, last, { path });
    assertEquals((await define({ policy: all }).resume(await loadCheckpoint(path))).done, true);
  });
});

/** A checkpoint of the first step. */
async function checkpointAt(path: string): Promise<Checkpoint> {
  const training = define();
  await saveCheckpoint(gpu, await advance(training, await training.init(newMlp()), { to: 1, batches }), {
    path,
  });
  return await loadCheckpoint(path);
}

for (
  const [what, options] of [
    ["another optimizer", { optimizer: OPTIMIZERS["clipped momentum"] }],
    ["another lookEvery", { lookEvery: 4 }],
    ["another policy", { policy }],
    ["another length", { steps: 99 }],
  ] as const
) {
  Deno.test(`resume refuses ${what}`, async () => {
    await withFile(async (path) => {
      const saved = await checkpointAt(path);
      const rule = 'Cannot resume as the training must be that of the saved run: "';
      await assertRejects(() => define(options).resume(saved), InputError, rule);
    });
  });
}

Deno.test("resume refuses a state that lacks a value, and names it", async () => {
  await withFile(async (path) => {
    const saved = await checkpointAt(path);
    const leaves = new Map([...saved.leaves].filter(([name]) => name !== "ring"));
    await assertRejects(() => define().resume({ ...saved, leaves }), InputError, 'Cannot resume "ring"');
  });
});

Deno.test("loadCheckpoint refuses a file that was cut, and names it", async () => {
  await withFile(async (path) => {
    await checkpointAt(path);
    const bytes = await Deno.readFile(path);
    for (const length of [4, 100, bytes.length - 1]) {
      await Deno.writeFile(path, bytes.slice(0, length));
      await assertRejects(() => loadCheckpoint(path), DataError, `"${path}"`);
    }
  });
});

/** Replaces text of a file by text of the same length. */
async function replaceText(path: string, from: string, to: string): Promise<void> {
  const bytes = await Deno.readFile(path), wanted = new TextEncoder().encode(from);
  const at = bytes.findIndex((_, i) => wanted.every((byte, k) => bytes[i + k] === byte));
  bytes.set(new TextEncoder().encode(to), at);
  await Deno.writeFile(path, bytes);
}

Deno.test("loadCheckpoint refuses a training state that is no JSON, and names the file", async () => {
  await withFile(async (path) => {
    await checkpointAt(path);
    await replaceText(path, '{\\"version\\"', '[\\"version\\"');
    const rule = `Cannot resume from "${path}" as its training state must be JSON`;
    await assertRejects(() => loadCheckpoint(path), DataError, rule);
  });
});

Deno.test("loadCheckpoint refuses another layout and what is no checkpoint", async () => {
  await withFile(async (path) => {
    await checkpointAt(path);
    await replaceText(path, '\\"version\\":1', '\\"version\\":2');
    const rule = `Cannot resume from "${path}" as it must be a checkpoint of layout 1`;
    await assertRejects(() => loadCheckpoint(path), DataError, `${rule}: it is of layout 2`);
  });
  const model = `${import.meta.dirname}/../fixtures/llama/model.safetensors`;
  await assertRejects(
    () => loadCheckpoint(model),
    DataError,
    `"${model}" as it must be a checkpoint of layout 1`,
  );
});

Deno.test("loadCheckpoint says which file is not there", async () => {
  await assertRejects(
    () => loadCheckpoint("nowhere/x.safetensors"),
    NotFoundError,
    '"nowhere/x.safetensors"',
  );
});

Deno.test("snapshot survives the step that consumes the original", async () => {
  const training = define();
  const state = await advance(training, await training.init(newMlp()), { to: 2, batches });
  const copy = snapshot(gpu, state);
  const before = await bitsOf(gpu, state);
  const first = await advance(training, state, { to: STEPS, batches });
  assertEquals(await bitsOf(gpu, copy), before);
  // And training goes on from it as from the original.
  const second = await advance(training, copy, { to: STEPS, batches });
  assertEquals(await bitsOf(gpu, second), await bitsOf(gpu, first));
});

Deno.test("snapshot lets two runs go on from one state, step by step", async () => {
  const training = define();
  let left = await advance(training, await training.init(newMlp()), { to: 2, batches }),
    right = snapshot(gpu, left);
  for (let step = 3; step <= STEPS; step++) {
    left = await advance(training, left, { to: step, batches });
    right = await advance(training, right, { to: step, batches });
  }
  assertEquals(await bitsOf(gpu, left), await bitsOf(gpu, right));
});

Deno.test("a consumed state throws ConsumedError with both steps, whatever it is used for", async () => {
  const training = define();
  const state = await advance(training, await training.init(newMlp()), { to: 2, batches });
  await training.next(state, batches[2]);
  const uses: Readonly<Record<string, () => Promise<unknown>>> = {
    next: () => training.next(state, batches[2]),
    read: () => read(gpu, state.params.top.weight),
    "read of the loss": () => read(gpu, state.loss!),
    saveCheckpoint: () => saveCheckpoint(gpu, state, { path: "never written" }),
    snapshot: () => Promise.resolve().then(() => snapshot(gpu, state)),
    "a loss of its parameters": () => read(gpu, mlpLoss(state.params, batches[0])),
    profile: () => Promise.resolve().then(() => training.profile(state)),
  };
  for (const [use, call] of Object.entries(uses)) {
    const error = await assertRejects(
      call,
      ConsumedError,
      "Cannot use the state of step 2 as step 3 consumed it",
      use,
    );
    assertEquals([error.producedAt, error.consumedBy], [2, 3], use);
  }
});

Deno.test("init leaves what it copies usable", async () => {
  const training = define();
  const start = await training.init(newMlp());
  const copy = await training.init(start.params);
  await advance(training, copy, { to: 2, batches });
  assertEquals(await valuesOf(gpu, start.params), await valuesOf(gpu, newMlp()));
  assert(start.step === 0);
});

Deno.test("resume takes a checkpoint whose settings name neither schedules nor betas, as older ones do", async () => {
  const defineWith = (optimizer: Optimizer): Training<Mlp, Pairs> =>
    defineTraining<Mlp, Pairs>(gpu, mlpLoss, { optimizer, steps: STEPS });
  const optimizer = chain(
    clipByGlobalNorm(1),
    adamW({ learningRate: cosine({ peak: 0.05, warmup: 1, steps: STEPS }), beta2: 0.95, eps: 1e-6 }),
  );
  const path = await Deno.makeTempFile(), training = defineWith(optimizer);
  const state = await training.next(await training.init(newMlp()), batches[0]);
  await saveCheckpoint(gpu, state, { path });
  const saved = await loadCheckpoint(path);
  assertStringIncludes(state.settings.optimizer, "adamW(cosine(0.05, warmup 1, steps");
  const settings = earlierSettings(
    `clipByGlobalNorm(1) > adamW(schedule, weightDecay 0.01), no policy, ${STEPS} steps, a look every 10`,
  );
  assertEquals((await training.resume({ ...saved, settings })).step, 1);
  const other = defineWith(chain(clipByGlobalNorm(1), adamW({ learningRate: 0.05 })));
  await assertRejects(
    () => other.resume({ ...saved, settings }),
    InputError,
    "must be that of the saved run",
  );
  const faster = defineWith(
    chain(clipByGlobalNorm(1), adamW({ learningRate: cosine({ peak: 1, steps: STEPS }) })),
  );
  await assertRejects(() => faster.resume(saved), InputError, "must be that of the saved run");
  await Deno.remove(path);
});

Deno.test("what a state tells about its step is JSON: a policy and a log can keep it", async () => {
  const freezing = scheduled([{ from: 2, frozen: ["top"] }]);
  const training = defineTraining<Mlp, Pairs>(gpu, mlpLoss, {
    optimizer: adamW({ learningRate: 0.01 }),
    policy: freezing,
    steps: STEPS,
    lookEvery: 2,
    validation: { batches: batches.slice(0, 1), every: 1 },
  });
  const { step, settings, cost, event, validation, ending, frozen, probed, since, best, done } =
    await advance(
      training,
      await training.init(newMlp()),
      { to: 2, batches },
    );
  // The type says so too.
  const kept: Json = { step, settings, cost, event, validation, ending, frozen, probed, since, best, done };
  const [component] = training.components(), componentCost: Json = component.cost!;
  assert(event !== null && cost !== null && validation !== null);
  assertEquals(JSON.parse(JSON.stringify([kept, componentCost])), [kept, componentCost]);
});
