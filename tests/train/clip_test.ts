/** What clipping takes for the norm of all gradients where some of them are not computed. */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  type ClipOptions,
  defineTraining,
  grad,
  type Optimizer,
  read,
  readAll,
  sgd,
  tensor,
  type Training,
  type TrainingState,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { bitsOf, type Mlp, mlpLoss, newMlp, type Pairs, pairs, scheduled, valuesOf } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const STEPS = 8, LIMIT = 0.1;
const batches = pairs(STEPS);
/** `bottom` is frozen in steps 3 to 5. */
const policy = scheduled([{ from: 2, frozen: ["bottom"] }, { from: 5, frozen: [] }]);
const descent = (options: ClipOptions): Optimizer =>
  chain(clipByGlobalNorm(LIMIT, options), sgd({ learningRate: 1 }));

function define(optimizer: Optimizer, trainable?: (path: string) => boolean): Training<Mlp, Pairs> {
  const options = { optimizer, steps: STEPS, lookEvery: 1, thawWarmup: 0, trainable };
  return defineTraining<Mlp, Pairs>(gpu, mlpLoss, { ...options, policy });
}

/** What a step does to the top, and the squared norms of both gradients before it. */
interface Taken {
  readonly state: TrainingState<Mlp>;
  readonly moved: readonly number[];
  readonly top: readonly number[];
  readonly squares: { readonly bottom: number; readonly top: number };
  readonly leaf: readonly number[];
}

async function run(options: ClipOptions): Promise<Taken[]> {
  const training = define(descent(options)), taken: Taken[] = [];
  let state = await training.init(newMlp());
  while (!state.done) {
    const before = await valuesOf(gpu, state.params);
    const params: Mlp = {
      bottom: { weight: tensor(before.get("bottom.weight")!, [4, 8]) },
      top: { weight: tensor(before.get("top.weight")!, [8, 4]) },
    };
    const batch = batches[state.step], loss = mlpLoss(params, batch);
    const [bottom, top] = await readAll(gpu, grad(loss, [params.bottom.weight, params.top.weight]));
    state = await training.next(state, batch);
    const after = (await valuesOf(gpu, state.params)).get("top.weight")!;
    const square = (g: Iterable<number>): number => [...g].reduce((sum, x) => sum + x * x, 0);
    const leaf = state.leaves.get("optimizer.squares");
    taken.push({
      state,
      moved: [...after].map((w, i) => w - before.get("top.weight")![i]),
      top: [...top],
      squares: { bottom: square(bottom), top: square(top) },
      leaf: leaf === undefined ? [] : [...await read(gpu, leaf)],
    });
  }
  return taken;
}

function assertClipped({ moved, top }: Taken, square: number): void {
  const scale = Math.min(1, LIMIT / (Math.sqrt(square) + 1e-6));
  assert(scale < 0.5, "the limit clips");
  // Differences of weights near 1, which are known to 6e-8.
  top.forEach((g, i) => assertAlmostEquals(moved[i], -scale * g, 2e-7));
}

Deno.test("clipByGlobalNorm over active sees only the gradients that a step has", async () => {
  for (const options of [{}, { over: "active" }] as const) {
    const taken = await run(options);
    for (const step of taken) {
      const frozen = step.state.step >= 3 && step.state.step <= 5;
      assertClipped(step, step.squares.top + (frozen ? 0 : step.squares.bottom));
      assertEquals(step.leaf, []);
    }
  }
});

Deno.test("clipByGlobalNorm over all counts what is frozen with the gradient that it had last", async () => {
  const taken = await run({ over: "all" });
  const last = taken[1].squares.bottom;
  for (const step of taken) {
    const frozen = step.state.step >= 3 && step.state.step <= 5;
    const bottom = frozen ? last : step.squares.bottom;
    assertClipped(step, step.squares.top + bottom);
    // Sums of 32 squares in f32.
    [bottom, step.squares.top].forEach((square, i) =>
      assertAlmostEquals(step.leaf[i], square, 1e-6 * square)
    );
  }
});

Deno.test("clipByGlobalNorm over all is that over active to the bit while nothing is frozen", async () => {
  const ends: unknown[] = [];
  for (const over of ["active", "all"] as const) {
    const training = define(chain(clipByGlobalNorm(LIMIT, { over }), adamW({ learningRate: 0.05 })));
    let state = await training.init(newMlp());
    for (const batch of batches.slice(0, 2)) state = await training.next(state, batch);
    const { "optimizer.squares": _, ...bits } = await bitsOf(gpu, state);
    ends.push(bits);
  }
  assertEquals(ends[0], ends[1]);
});

Deno.test("clipByGlobalNorm over all counts what is frozen from the start as nothing, and knows only what is trained", async () => {
  const training = define(descent({ over: "all" }), (path) => path.startsWith("top"));
  const state = await training.next(await training.init(newMlp()), batches[0]);
  assertEquals(state.leaves.get("optimizer.squares")!.shape, [1]);
  const { updates, state: next } = clipByGlobalNorm(1, { over: "all" }).next(
    new Map([["squares", tensor([0, 9, 16])]]),
    new Map([["b", tensor([0, 4])]]),
    new Map(),
    ["a", "b", "c"],
  );
  const [update, squares] = await readAll(gpu, [updates.get("b")!, next.get("squares")!]);
  assertEquals([...squares], [0, 16, 16]);
  assertAlmostEquals(update[1], 4 / Math.sqrt(32), 1e-6);
});

Deno.test("resume clips over all as an undisturbed run does, also while something is frozen", async () => {
  const optimizer = chain(clipByGlobalNorm(LIMIT, { over: "all" }), adamW({ learningRate: 0.05 }));
  const undisturbed = define(optimizer);
  let expected = await undisturbed.init(newMlp());
  while (!expected.done) expected = await undisturbed.next(expected, batches[expected.step]);
  const folder = await Deno.makeTempDir(), path = `${folder}/state.safetensors`;
  for (const at of [2, 4, 5]) {
    const first = define(optimizer);
    let state = await first.init(newMlp());
    while (state.step < at) state = await first.next(state, batches[state.step]);
    await saveCheckpoint(gpu, state, { path });
    const second = define(optimizer);
    state = await second.resume(await loadCheckpoint(path));
    while (!state.done) state = await second.next(state, batches[state.step]);
    assertEquals(await bitsOf(gpu, state), await bitsOf(gpu, expected));
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("clipByGlobalNorm prints what it is over, where that is not what it is by itself", () => {
  assertEquals(clipByGlobalNorm(2).name, "clipByGlobalNorm(2)");
  assertEquals(clipByGlobalNorm(2, { over: "all" }).name, "clipByGlobalNorm(2, over all)");
});
