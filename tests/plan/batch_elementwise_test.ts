/**
 * Alike programs in one launch.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  adamW,
  add,
  chain,
  clipByGlobalNorm,
  defineTraining,
  type FreezePolicy,
  type Gpu,
  type Look,
  matmul,
  mean,
  multiply,
  openGpu,
  type Optimizer,
  type Precision,
  read,
  readAll,
  sum,
  type Tensor,
  tensor,
} from "@firn/train";
import { normalValues } from "@firn/train/kernels";
import { plan } from "../../core/plan/plan.ts";
import { leaf } from "../../core/sources.ts";
import { untimed } from "../train/tiny.ts";

type Layers = { readonly [name: string]: Tensor };

const gpu = await openGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

/** Measures everything and freezes nothing. */
const watch: FreezePolicy = {
  name: "watch",
  signals: ["gradNorm", "gradDelta", "weightDelta"],
  init: () => null,
  next: () => null,
  frozen: () => [],
};

function loss(layers: Layers, { x }: { readonly x: Tensor }): Tensor {
  let y = x;
  for (const layer of Object.values(layers)) y = matmul(y, layer);
  return mean(multiply(y, y));
}

/** Trains ten layers of 6x6 for three steps. */
async function train(
  device: Gpu,
  precision: Precision,
): Promise<{ launches: number; bits: number[][]; looks: Look[] }> {
  const layers: Layers = Object.fromEntries(
    Array.from(
      { length: 10 },
      (_, i) => [`layer${i}`, tensor(normalValues({ size: 36, key: [i, 1] }), [6, 6])],
    ),
  );
  const training = defineTraining(device, loss, {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 0.01 })),
    policy: watch,
    steps: 3,
    lookEvery: 1,
    precision,
  });
  let state = await training.init(layers);
  const looks: Omit<Look, "stepMs">[] = [];
  for (let i = 0; i < 3; i++) {
    state = await training.next(state, { x: tensor(normalValues({ size: 12, key: [i, 2] }), [2, 6]) });
    looks.push(untimed(state.look)!);
  }
  const values = await readAll(device, [...Object.values(state.params), ...state.leaves.values()]);
  const bits = values.map((v) => [...new Uint32Array(v.buffer, v.byteOffset, v.length)]);
  return { launches: state.cost!.launches, bits, looks };
}

for (const precision of ["f32", "f16"] as const satisfies readonly Precision[]) {
  Deno.test(`updates and sums of alike parameters share launches and keep the bits of launches of their own: ${precision}`, async () => {
    const few = await train({ ...gpu, target: { ...gpu.target, maxBindings: 8 } }, precision);
    const many = await train({ ...gpu, target: { ...gpu.target, maxBindings: 32 } }, precision);
    assertEquals(many.bits, few.bits);
    assertEquals(many.looks, few.looks);
    // Ten updates with their readings in two launches.
    assert(many.launches <= few.launches - 8, `${many.launches} and ${few.launches} launches`);
  });
}

Deno.test("updates of two weights of 2048x768 share a launch", () => {
  const target = { software: false, subgroups: true, workgroupBytes: 32768, maxBindings: 32 };
  const weights = ["a", "b"].map((path) => leaf(path, { shape: [2048, 768], dtype: "f32" }));
  const updates = new Map(weights.map((weight, i) => [i, weight]));
  assertEquals(plan(weights.map((weight) => multiply(weight, 2)), { target, updates }).launches.length, 1);
});

Deno.test("an update that reads a parameter which another one overwrites sees its old value", async () => {
  const names = ["a", "b", "c"];
  const shift: Optimizer = {
    name: "shift",
    moments: [],
    init: () => new Map(),
    // Each becomes larger by its right neighbour; the last by itself.
    next: (_, grads, params) => ({
      updates: new Map(
        [...grads.keys()].map((path, i) => [path, params.get(names[Math.min(i + 1, 2)])!]),
      ),
      state: new Map(),
    }),
  };
  const training = defineTraining(
    gpu,
    (p: Layers, { x }: { readonly x: Tensor }) => mean(multiply(multiply(p.a, p.b), multiply(p.c, x))),
    { optimizer: shift, steps: 1 },
  );
  const start = await training.init({ a: tensor([1, 1]), b: tensor([2, 2]), c: tensor([4, 4]) });
  const { params } = await training.next(start, { x: tensor([1, 1]) });
  const seen = await Promise.all(names.map(async (name) => [...await read(gpu, params[name])]));
  assertEquals(seen, [[3, 3], [6, 6], [8, 8]]);
});

Deno.test("updates whose sums others need before they may overwrite are planned apart", () => {
  const target = { software: true, subgroups: false, workgroupBytes: 32768, maxBindings: 32 };
  const leaves = new Map(
    [["a1", 8], ["a2", 8], ["b1", 12], ["b2", 12], ["c", 12], ["d", 8]].map(([name, size]) =>
      [name as string, leaf(name as string, { shape: [size as number], dtype: "f32" })] as const
    ),
  );
  const of = (name: string): Tensor => leaves.get(name)!;
  const grown = new Map(["a1", "a2", "b1", "b2"].map((name) => [name, multiply(of(name), 1.5)]));
  const roots = [
    ...grown.values(),
    // Each needs an old value of one pair and the sum over a new value of the other.
    add(of("c"), multiply(of("b1"), sum(grown.get("a1")!))),
    add(of("d"), multiply(of("a2"), sum(grown.get("b2")!))),
    sum(grown.get("a2")!),
    sum(grown.get("b1")!),
  ];
  const names = [...grown.keys(), "c", "d"];
  const updates = new Map(names.map((name, i) => [i, of(name)]));
  assert(plan(roots, { target, updates }).launches.length > 0);
});
