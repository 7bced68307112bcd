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
  type HostData,
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

/** What a step computes of a parameter, as read back. */
interface Seen {
  readonly weight: HostData;
  readonly gradient: HostData;
  readonly previous?: HostData;
  readonly update: readonly number[];
  readonly m: HostData;
  readonly v: HostData;
  readonly output: readonly number[];
}

/** Each built-in signal in float64. */
const REFERENCE: { readonly [S in Signal]: (seen: Seen) => number } = {
  gradNorm: ({ gradient: g }) => total(g.length, (e) => Math.abs(g[e])),
  gradSquare: ({ gradient: g }) => total(g.length, (e) => g[e] ** 2),
  gradDelta: ({ gradient: g, previous: last }) =>
    last === undefined ? NaN : total(g.length, (e) => Math.abs(g[e] - last[e])),
  gradDot: ({ gradient: g, previous: last }) =>
    last === undefined ? NaN : total(g.length, (e) => g[e] * last[e]) /
      Math.hypot(...g) / Math.hypot(...last),
  weightDelta: ({ update: u }) => total(u.length, (e) => Math.abs(u[e])),
  weightNorm: ({ weight }) => Math.hypot(...weight),
  updateNorm: ({ update }) => Math.hypot(...update),
  benefit: ({ gradient: g, update: u }) => total(g.length, (e) => Math.abs(g[e] * u[e])),
  firstMoment: ({ m }) => total(m.length, (e) => m[e] ** 2),
  secondMoment: ({ v }) => total(v.length, (e) => v[e]),
  activationNorm: ({ output }) => Math.hypot(...output),
};

/** A product of matrices in float64. */
function product(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  [rows, inner, columns]: readonly number[],
): number[] {
  return Array.from(
    { length: rows * columns },
    (_, i) => total(inner, (k) => a[Math.floor(i / columns) * inner + k] * b[k * columns + i % columns]),
  );
}

Deno.test("next measures every signal of every component as its definition says", async () => {
  const training = defineTraining(gpu, mlpLoss, {
    optimizer: chain(clipByGlobalNorm(0.5), adamW({ learningRate: 0.05 })),
    policy: scheduled([], ALL_SIGNALS),
    steps: 3,
    lookEvery: 1,
  });
  let state = await training.init(newMlp()), previous: HostData[] | null = null;
  for (const batch of pairs(3)) {
    const before = await readAll(gpu, COMPONENTS.map((name) => state.params[name].weight));
    // Copies: the step consumes the originals.
    const [bottom, top] = COMPONENTS.map((name, i): { weight: Tensor } => ({
      weight: tensor(before[i].slice(), state.params[name].weight.shape),
    }));
    const copy: Mlp = { bottom, top };
    const gradients = await readAll(gpu, grad(mlpLoss(copy, batch), [bottom.weight, top.weight]));
    const [x] = await readAll(gpu, [batch.x]);
    const hidden = product(x, before[0], [4, 4, 8]);
    const outputs = [hidden, product(hidden.map((h) => h / (1 + Math.exp(-h))), before[1], [4, 8, 4])];
    state = await training.next(state, batch);
    const after = await readAll(gpu, COMPONENTS.map((name) => state.params[name].weight));
    const moments = await readAll(
      gpu,
      ["m", "v"].flatMap((slot) =>
        COMPONENTS.map((name) => state.leaves.get(`optimizer.${slot}.${name}.weight`)!)
      ),
    );
    COMPONENTS.forEach((name, i) => {
      const seen: Seen = {
        weight: before[i],
        gradient: gradients[i],
        previous: previous?.[i],
        update: [...after[i]].map((w, e) => w - before[i][e]),
        m: moments[i],
        v: moments[COMPONENTS.length + i],
        output: outputs[i],
      };
      for (const signal of ALL_SIGNALS) {
        const [measured] = state.look!.readings[signal][name], expected = REFERENCE[signal](seen);
        if (Number.isNaN(expected)) assertEquals(measured, NaN, `${signal} of ${name}`);
        // Weights near 1 keep a step of 0.05 to 1e-6 of it.
        else assertAlmostEquals(measured, expected, 1e-4 * Math.abs(expected), `${signal} of ${name}`);
      }
    });
    previous = gradients;
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
