/**
 * What a step measures, against the same numbers computed from its parts on the host.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  grad,
  InputError,
  readAll,
  sgd,
  type Signal,
  type Tensor,
  tensor,
} from "@firn/train";
import { ALL_SIGNALS, type Mlp, mlpLoss, newMlp, pairs, scheduled } from "./tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const COMPONENTS = ["bottom", "top"] as const;

const total = (size: number, term: (i: number) => number): number =>
  Array.from({ length: size }, (_, i) => term(i)).reduce((a, b) => a + b);

Deno.test("next measures every signal of every component as its definition says", async () => {
  const training = defineTraining(gpu, mlpLoss, {
    optimizer: chain(clipByGlobalNorm(0.5), adamW({ learningRate: 0.05 })),
    policy: scheduled([], ALL_SIGNALS),
    steps: 3,
    lookEvery: 1,
  });
  let state = await training.init(newMlp()), previous: ArrayLike<number>[] | null = null;
  for (const batch of pairs(3)) {
    const before = await readAll(gpu, COMPONENTS.map((name) => state.params[name].weight));
    // Copies: the step consumes the originals.
    const [bottom, top] = COMPONENTS.map((name, i): { weight: Tensor } => ({
      weight: tensor(before[i].slice(), state.params[name].weight.shape),
    }));
    const copy: Mlp = { bottom, top };
    const gradients = await readAll(gpu, grad(mlpLoss(copy, batch), [bottom.weight, top.weight]));
    state = await training.next(state, batch);
    const after = await readAll(gpu, COMPONENTS.map((name) => state.params[name].weight));
    const moments = await readAll(
      gpu,
      ["m", "v"].flatMap((slot) =>
        COMPONENTS.map((name) => state.leaves.get(`optimizer.${slot}.${name}.weight`)!)
      ),
    );
    COMPONENTS.forEach((name, i) => {
      const g = gradients[i], step = after[i].map((w, e) => w - before[i][e]);
      const m = moments[i], v = moments[COMPONENTS.length + i], last = previous?.[i];
      const expected: Record<Signal, number> = {
        gradNorm: total(g.length, (e) => Math.abs(g[e])),
        gradSquare: total(g.length, (e) => g[e] ** 2),
        gradDelta: last === undefined ? NaN : total(g.length, (e) => Math.abs(g[e] - last[e])),
        weightDelta: total(g.length, (e) => Math.abs(step[e])),
        benefit: total(g.length, (e) => Math.abs(g[e] * step[e])),
        firstMoment: total(g.length, (e) => m[e] ** 2),
        secondMoment: total(g.length, (e) => v[e]),
      };
      for (const signal of ALL_SIGNALS) {
        const [seen] = state.look!.readings[signal]![name];
        if (Number.isNaN(expected[signal])) assertEquals(seen, NaN, `${signal} of ${name}`);
        // Weights near 1 keep a step of 0.05 to 1e-6 of it.
        else assertAlmostEquals(seen, expected[signal], 1e-4 * expected[signal]);
      }
    });
    previous = gradients as Float32Array[];
  }
});

Deno.test("a policy that asks for moments which the optimizer does not keep has those of training, named in its settings", async () => {
  const training = defineTraining(gpu, mlpLoss, {
    optimizer: sgd({ learningRate: 0.05, momentum: 0.9 }),
    policy: scheduled([], ["gradNorm", "secondMoment"]),
    steps: 1,
  });
  const { settings, leaves } = await training.init(newMlp());
  assertEquals(settings.optimizer, "gradientMoments(0.9, 0.999) > sgd(0.05, momentum 0.9)");
  assert(leaves.has("optimizer.meanSquare.top.weight"));
});

Deno.test("defineTraining refuses a policy that asks for a signal which there is not", () => {
  const policy = scheduled([], ["gradnorm" as Signal]);
  assertThrows(
    () => defineTraining(gpu, mlpLoss, { optimizer: sgd({ learningRate: 0.05 }), policy, steps: 1 }),
    InputError,
    'Cannot measure "gradnorm" for "scheduled" as the signals are gradNorm, gradSquare',
  );
});
