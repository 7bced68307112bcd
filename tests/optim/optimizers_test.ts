import { assert, assertEquals, assertThrows } from "@std/assert";
import { adamW, chain, clipByGlobalNorm, InputError, linearRate, sgd, tensor } from "@firn/train";
import { readStep } from "../reference/read_step.ts";
import { assertNear } from "../reference/values.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { assertParams, gradients, numbers, STEPS, tensors, train } from "./steps.ts";

Deno.test("adamW equals algorithm 2 of its paper in float64 over twenty steps", async () => {
  await using gpu = await openTestGpu();
  const rate = linearRate({ peak: 0.1, warmup: 2, steps: 22 });
  const [beta1, beta2, eps, weightDecay] = [0.8, 0.95, 1e-6, 0.1];
  const params = numbers(1);
  for (const [path, p] of params) {
    const m = new Float64Array(p.length), v = new Float64Array(p.length);
    for (let step = 1; step <= STEPS; step++) {
      const g = gradients(step).get(path)!;
      p.forEach((x, i) => {
        m[i] = beta1 * m[i] + (1 - beta1) * g[i];
        v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2;
        const unbiased = [m[i] / (1 - beta1 ** step), v[i] / (1 - beta2 ** step)];
        p[i] = x - rate(step) * (unbiased[0] / (Math.sqrt(unbiased[1]) + eps) + weightDecay * x);
      });
    }
  }
  assertParams(await train(gpu, adamW({ learningRate: rate, beta1, beta2, eps, weightDecay })), params);
});

Deno.test("clipByGlobalNorm scales all gradients by one factor, and leaves small ones alone", async () => {
  await using gpu = await openTestGpu();
  const grads = numbers(3);
  const norm = Math.hypot(...[...grads.values()].flatMap((g) => [...g]));
  for (const limit of [norm / 2, 2 * norm]) {
    const { updates } = clipByGlobalNorm(limit).next(new Map(), tensors(grads), new Map());
    const values = await readStep(gpu, [...updates.values()], 1);
    const factor = Math.min(1, limit / (norm + 1e-6));
    [...grads.values()].forEach((g, i) => {
      assertNear(values[i], g.map((x) => x * factor), { tolerance: 1e-6, what: `limit ${limit}` });
    });
  }
});

Deno.test("clipByGlobalNorm leaves gradients of zero at zero", async () => {
  await using gpu = await openTestGpu();
  const { updates } = clipByGlobalNorm(1).next(new Map(), new Map([["w", tensor([0, 0])]]), new Map());
  assertEquals(await readStep(gpu, [...updates.values()], 1), [new Float32Array(2)]);
});

Deno.test("chain hands the updates of one part to the next and keeps the state of all", async () => {
  await using gpu = await openTestGpu();
  const optimizer = chain(clipByGlobalNorm(1), sgd({ learningRate: 0.05, momentum: 0.9 }));
  assertEquals([...optimizer.init(tensors(numbers(1))).keys()], [
    "velocity.layer.weight",
    "velocity.tall.weight",
    "velocity.layer.bias",
  ]);
  const params = numbers(1),
    velocity = new Map([...params].map(([path, p]) => [path, new Float64Array(p.length)]));
  for (let step = 1; step <= STEPS; step++) {
    const grads = gradients(step);
    const factor = Math.min(1, 1 / Math.hypot(...[...grads.values()].flatMap((g) => [...g])));
    for (const [path, p] of params) {
      const own = velocity.get(path)!, g = grads.get(path)!;
      p.forEach((x, i) => {
        own[i] = 0.9 * own[i] + g[i] * factor;
        p[i] = x - 0.05 * own[i];
      });
    }
  }
  assertParams(await train(gpu, optimizer), params);
});

Deno.test("chain prints its parts and has the learning rate of the last that has one", () => {
  const rate = linearRate({ peak: 1, steps: 10 });
  const optimizer = chain(adamW({ learningRate: rate }), clipByGlobalNorm(2));
  assertEquals(
    optimizer.name,
    "adamW(linearRate(1, warmup 0, steps 10, floor 0), weightDecay 0.01) > clipByGlobalNorm(2)",
  );
  assert(optimizer.learningRate === rate);
});

Deno.test("chain refuses two parts with state of one name", () => {
  const part = sgd({ learningRate: 1, momentum: 0.9 });
  assertThrows(
    () => chain(part, part).init(tensors(numbers(1))),
    InputError,
    'keeps "velocity.layer.weight" too',
  );
});

Deno.test("optimizers skip parameters without a gradient", () => {
  const params = tensors(numbers(1)), grads = new Map([["layer.bias", tensor([1, 2, 3])]]);
  const optimizer = adamW({ learningRate: 1 });
  const { updates, state } = optimizer.next(optimizer.init(params), grads, params);
  assertEquals([...updates.keys()], ["layer.bias"]);
  assertEquals([...state.keys()], ["m.layer.bias", "v.layer.bias"]);
});
