/** Updates that are elementwise are one launch for a parameter, and one for several of one shape. */

import { assertEquals } from "@std/assert";
import { adamW, add, chain, type Gpu, leaf, type Optimizer, sgd, sizeOf, type Tensor } from "@firn/train";
import { adam, lion, scheduleFreeAdamW, weightAverage } from "@firn/train/optim";
import { plan } from "../../core/plan/plan.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const learningRate = 0.1;
/** Optimizers, and tensors that an update reads and writes for a parameter besides its gradient, which it reads. */
const ELEMENTWISE: Readonly<Record<string, readonly [Optimizer, number]>> = {
  sgd: [sgd({ learningRate }), 1],
  "sgd with momentum": [sgd({ learningRate, momentum: 0.9, nesterov: true, weightDecay: 0.1 }), 2],
  adam: [adam({ learningRate, weightDecay: 0.1 }), 3],
  adamW: [adamW({ learningRate }), 3],
  scheduleFreeAdamW: [scheduleFreeAdamW({ learningRate, weightDecay: 0.1 }), 3],
  lion: [lion({ learningRate, weightDecay: 0.1 }), 2],
  "adamW with an average": [chain(adamW({ learningRate }), weightAverage(0.9)), 4],
};

function updatePlan(optimizer: Optimizer, shapes: readonly (readonly number[])[]): ReturnType<typeof plan> {
  const leaves = (prefix: string): Map<string, Tensor> =>
    new Map(shapes.map((shape, i) => [`p${i}`, leaf(`${prefix}p${i}`, { shape, dtype: "f32" })]));
  const params = leaves(""), grads = leaves("gradient.");
  const state = new Map(
    [...optimizer.init(params)].map((
      [path, { shape }],
    ) => [path, leaf(`state.${path}`, { shape, dtype: "f32" })]),
  );
  const step = optimizer.next(state, grads, params),
    roots: Tensor[] = [],
    updates = new Map<number, Tensor>();
  for (const [path, weight] of params) {
    updates.set(roots.push(add(weight, step.updates.get(path)!)) - 1, weight);
  }
  for (const [path, value] of step.state) updates.set(roots.push(value) - 1, state.get(path)!);
  return plan(roots, { target: gpu.target, updates });
}

for (const [name, [optimizer, kept]] of Object.entries(ELEMENTWISE)) {
  Deno.test(`${name} updates a parameter in one launch that reads and writes each tensor once`, () => {
    const shape = [64, 33], { launches, cost } = updatePlan(optimizer, [shape]);
    assertEquals(launches.length, 1, launches.map(({ kernel }) => kernel.name).join("\n"));
    const bytes = 4 * sizeOf(shape), constants = cost.bytes - bytes * (1 + kept);
    // What is read and written is one buffer; scalars of the step are a few bytes.
    assertEquals(constants < 512, true, `${cost.bytes} bytes, where ${1 + kept} tensors of ${bytes} are`);
    const two = updatePlan(optimizer, [shape, shape]).launches.length;
    assertEquals(two <= 2, true, `${two} launches for two parameters`);
  });
}
