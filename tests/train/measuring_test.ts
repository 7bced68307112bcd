/**
 * What measuring costs besides launches: submissions, reads and bind groups of steps with many components, and how long a change
 * of the frozen set takes.
 *
 * @module
 */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  adamW,
  add,
  chain,
  clipByGlobalNorm,
  defineTraining,
  free,
  type FreezePolicy,
  InputError,
  matmul,
  mean,
  multiply,
  type Tensor,
  tensor,
} from "@firn/train";
import { bottomFreeze, planAhead, record, topFreeze } from "@firn/train/policies";
import type { Json, Look } from "../../core/policy.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { bitsOf, scheduled } from "./tiny.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

/** As many components as MiniLM-L6 with a head has. */
const MANY = 54;
type Layers = { readonly layers: { readonly [name: string]: { readonly weight: Tensor } } };

const values = (seed: number): Tensor =>
  tensor(Float32Array.from({ length: 16 }, (_, i) => Math.sin(seed + i * 1.7) / 2), [4, 4]);

function loss({ layers }: Layers, { x }: { readonly x: Tensor }): Tensor {
  // Beside each other: a chain of so many would be slow to compile.
  const all = Object.values(layers).map(({ weight }) => matmul(x, weight));
  return all.map((y) => mean(multiply(y, y))).reduce((a, b) => add(a, b));
}

/** What the steps after the first look took, by what was counted. */
async function countsOf(
  policy: FreezePolicy<Json> | undefined,
  { steps = 9, told }: { readonly steps?: number; readonly told?: () => void } = {},
) {
  const traced = (params: Layers, batch: { readonly x: Tensor }): Tensor => {
    told?.();
    return loss(params, batch);
  };
  const training = defineTraining(gpu, traced, {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 1e-3 })),
    ...policy && { policy },
    steps,
    lookEvery: 3,
  });
  const named = Array.from({ length: MANY }, (_, i) => [i, { weight: values(i) }] as const);
  const params: Layers = { layers: Object.fromEntries(named) };
  let state = await training.init(params);
  const looks: Look[] = [],
    seen: { readonly submits: number; readonly bindGroups: number; readonly frozen: number }[] = [];
  while (!state.done) {
    const { submits, bindGroups } = gpu.counts;
    state = await training.next(state, { x: values(99) });
    if (state.look !== null) looks.push(state.look);
    seen.push({
      submits: gpu.counts.submits - submits,
      bindGroups: gpu.counts.bindGroups - bindGroups,
      frozen: state.frozen.length,
    });
  }
  const components = training.components().length;
  training[Symbol.dispose]();
  const bits = await bitsOf(gpu, state), launches = state.cost!.launches;
  free(state.params);
  free(Object.fromEntries(state.leaves));
  return { components, launches, seen: seen.slice(3), looks, bits };
}

Deno.test("steps that measure signals of 54 components submit once, a look once more, and bind nothing anew", async () => {
  const plain = await countsOf(undefined);
  assertEquals(plain.components, MANY);
  assertEquals(plain.seen.map(({ submits }) => submits), [1, 1, 2, 1, 1, 2]);
  for (const signals of [["gradNorm"], ["gradDelta", "benefit", "updateNorm"]] as const) {
    const { seen, launches, looks } = await countsOf(record(...signals));
    assertEquals(seen.map(({ submits }) => submits), [1, 1, 2, 1, 1, 2], `${signals}`);
    // Two sides of what keeps the last gradient are bound in the first two steps.
    assertEquals(seen.every(({ bindGroups }) => bindGroups === 0), true, `${signals}`);
    assert(
      signals.length > 1 || launches <= plain.launches + 2,
      `${signals}: ${launches}, not ${plain.launches}`,
    );
    assertEquals(Object.keys(looks[0].readings[signals[0]]).length, MANY);
  }
});

Deno.test("a step goes through the tree of its parameters twice: as it begins, and as it makes the next", async () => {
  const training = defineTraining(gpu, loss, {
    optimizer: adamW({ learningRate: 1e-3 }),
    steps: 9,
    lookEvery: 9,
  });
  const batch = { x: values(99) };
  let state = await training.init(
    { layers: { 0: { weight: values(0) }, 1: { weight: values(1) } } } as Layers,
  );
  state = await training.next(await training.next(state, batch), batch);
  let reads = 0;
  const { layers } = state.params,
    watched = Object.defineProperty({}, "layers", {
      enumerable: true,
      get: () => (reads++, layers),
    });
  const next = await training.next(Object.assign(state, { params: watched as Layers }), batch);
  assertEquals([reads, Object.keys(next.params.layers)], [2, ["0", "1"]]);
});

Deno.test("what a policy announces is planned while the device works, and once: in the step before its look", async () => {
  const plans: number[] = [];
  let traced = 0;
  const announced = planAhead(
    scheduled([{ from: 3, frozen: ["layers.0"] }, { from: 6, frozen: ["layers.0", "layers.1"] }]),
  );
  const asked: FreezePolicy<Json> = {
    ...announced,
    next(state, look) {
      plans.push(traced);
      return announced.next(state, look);
    },
  };
  const { seen } = await countsOf(asked, { steps: 12, told: () => traced++ });
  // The first step traces the loss for its components and its plan.
  const [begun] = plans;
  assertEquals(plans, [begun, begun + 1, begun + 2, begun + 2]);
  assertEquals(traced, begun + 2, "at a look nothing is planned");
  assertEquals(seen.slice(3, 6).map(({ frozen }) => frozen), [1, 1, 2]);
});

Deno.test("the set of bottomFreeze and topFreeze, known from the start, is planned in the step before the first look", async () => {
  for (const share of [bottomFreeze(1 / MANY), topFreeze(1 / MANY)]) {
    const plans: number[] = [];
    let traced = 0;
    const asked: FreezePolicy<Json> = {
      ...share,
      next(state, look) {
        plans.push(traced);
        return share.next(state, look);
      },
    };
    const { seen } = await countsOf(asked, { steps: 6, told: () => traced++ });
    assertEquals(plans, [traced, traced], "nothing is planned at a look, or after it");
    assertEquals(seen.at(-1)!.frozen, 1);
  }
});

Deno.test("a step that was planned ahead has the bits of one that was not, and a policy that changes its mind is followed", async () => {
  const sets = [{ from: 3, frozen: ["layers.0"] }, { from: 6, frozen: ["layers.2"] }],
    plain = scheduled(sets);
  const bitsWith = async (coming: FreezePolicy<Json>["coming"]) => {
    const { bits, seen } = await countsOf({ ...plain, coming }, { steps: 9 });
    assertEquals(seen.map(({ frozen }) => frozen), [1, 1, 1, 1, 1, 1]);
    return bits;
  };
  const bits = await bitsWith(undefined);
  assertEquals(await bitsWith(() => ["layers.0"]), bits);
  assertEquals(await bitsWith(() => ["layers.1", "layers.3"]), bits);
  assertEquals(await bitsWith(() => []), bits);
  const error = await assertRejects(() => countsOf({ ...plain, coming: () => ["layers.x"] }), InputError);
  assertStringIncludes(error.message, '"coming" must name components');
});

Deno.test("a look tells how long the last change of the frozen set took, and before any how long the first plan took", async () => {
  const { looks } = await countsOf(scheduled([{ from: 6, frozen: ["layers.0"] }]), { steps: 12 });
  const [first, planned, changed, later] = looks.map(({ changeMs }) => changeMs);
  assertEquals(first, undefined, "as for what a step takes, which is compiled");
  assert(planned! > 0 && changed! > 0 && changed !== planned, `${planned}, ${changed}`);
  assertEquals(later, changed, "nothing changed since");
});
