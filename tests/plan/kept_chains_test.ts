/**
 * Chains of elementwise values that are all kept: more of them than a launch binds buffers.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { openGpu, readAll, type Tensor, tensor } from "@firn/train";
import { add, multiply, sumEach, tanh } from "@firn/train/ops";
import { plan } from "../../core/plan/plan.ts";
import { evaluate } from "../reference/evaluate.ts";
import { assertNear, random } from "../reference/values.ts";

const value = (shape: readonly number[], seed: number): Tensor =>
  tensor(Float32Array.from(random(shape, { seed }).data), shape);

/** Values of each step of a chain that starts with the first value. */
function chain(steps: number, next: (state: Tensor, step: number) => Tensor): Tensor[] {
  const kept: Tensor[] = [];
  let state = value([16], 0);
  for (let i = 1; i <= steps; i++) kept.push(state = next(state, i));
  return kept;
}

const average = (steps: number): Tensor[] =>
  chain(steps, (state, i) => add(multiply(state, 0.9), multiply(value([16], i), 0.1)));
const weights = [1, 2, 3].map((seed) => value([16], 1000 + seed));

const CHAINS: Readonly<Record<string, () => Tensor[]>> = {
  "a moving average of 33 steps": () => average(33),
  "a cumulative sum of 65 values": () => chain(65, (state, i) => add(state, value([16], i))),
  "a recurrent network without products, 40 steps": () =>
    chain(40, (state, i) => {
      const [w, u, bias] = weights;
      return tanh(add(add(multiply(w, state), multiply(u, value([16], i))), bias));
    }),
};

Deno.test("readAll of chains whose values are all kept gives each value, with 8, 10 and 32 bindings", async () => {
  await using gpu = await openGpu();
  for (const [name, make] of Object.entries(CHAINS)) {
    const kept = make(), expected = evaluate(kept, new Map());
    for (const maxBindings of [8, 10, 32]) {
      const seen = await readAll({ ...gpu, target: { ...gpu.target, maxBindings } }, kept);
      // Some dozen roundings of f32.
      seen.forEach((values, i) =>
        assertNear(values, expected[i].data, { tolerance: 1e-5, what: `step ${i} of ${name}` })
      );
    }
  }
});

/** Kernels of a plan, and the most buffers that one binds. */
function sizes(roots: readonly Tensor[], maxBindings: number): { launches: number; most: number } {
  const target = { software: false, subgroups: true, workgroupBytes: 16384, maxBindings };
  const { launches } = plan(roots, { target });
  return { launches: launches.length, most: Math.max(...launches.map(({ bindings }) => bindings.length)) };
}

Deno.test("plan fills launches of a kept chain: two buffers a step, and the state that it starts with", () => {
  for (const [maxBindings, steps] of [[8, 3], [10, 4], [32, 15]]) {
    const { launches, most } = sizes(average(60), maxBindings);
    assertEquals(launches, 60 / steps);
    assertEquals(most, 1 + 2 * steps);
  }
});

Deno.test("plan keeps 2,000 values of a chain", () => {
  assertEquals(sizes(average(2000), 8), { launches: Math.ceil(2000 / 3), most: 7 });
});

Deno.test("plan adds up 1,000 values of which none is kept", () => {
  const { launches, most } = sizes(average(1000).slice(-1), 8);
  assert(launches <= 200 && most <= 8, `${launches} launches, ${most} bindings`);
});

Deno.test("plan sums up 100 values of one group in launches whose workgroup memory suffices", () => {
  const x = tanh(value([64], 1));
  const target = { software: false, subgroups: true, workgroupBytes: 16384, maxBindings: 32 };
  const { launches } = plan([sumEach(Array.from({ length: 100 }, (_, i) => multiply(x, i + 2)))], { target });
  // Sixteen sums of 256 threads fill it.
  assertEquals(
    launches.map(({ kernel: { name } }) => name.split(" ")[0]).filter((name) => name !== "collect").length,
    7,
  );
});
