/**
 * Evaluation while a model trains: it changes no bit of the run, and finds the best step.
 *
 * @module
 */

import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  adamW,
  chain,
  countLabels,
  crossEntropy,
  defineTraining,
  InputError,
  type Loss,
  matmul,
  openGpu,
  read,
  scan,
  type Tensor,
  tensor,
} from "@firn/train";
import { weightAverage } from "@firn/train/optim";
import { evaluateMetrics, evaluator, followBest, lossMetrics } from "@firn/train/evaluation";
import { untimed } from "../train/tiny.ts";

type Params = { readonly w: Tensor };
type Batch = { readonly x: Tensor; readonly labels: Tensor };

const loss: Loss<Params, Batch> = Object.assign(
  ({ w }: Params, { x, labels }: Batch): Tensor => crossEntropy(matmul(x, w), labels),
  { count: ({ labels }: Batch): number => countLabels(labels) },
);

const batchOf = (seed: number, labels: readonly number[]): Batch => ({
  x: tensor(Float32Array.from({ length: 3 * labels.length }, (_, i) => Math.sin(seed + 3 * i)), [
    labels.length,
    3,
  ]),
  labels: tensor(Int32Array.from(labels)),
});

const BATCHES = Array.from({ length: 6 }, (_, i) => batchOf(i, [0, 1]));
const SETS = { easy: [batchOf(0, [0, 1]), batchOf(9, [1, -100])], hard: [batchOf(5, [1, 1])] };

const start = (): Params => ({ w: tensor([0.1, -0.2, 0.3, 0, 0.2, -0.1], [3, 2]) });

for (const averaged of [false, true]) {
  Deno.test(`an evaluator changes no bit of a run${averaged ? " whose weights are averaged" : ""}, and judges what it would keep`, async () => {
    await using gpu = await openGpu();
    const optimizer = chain(adamW({ learningRate: 0.1 }), ...averaged ? [weightAverage(0.5)] : []);
    const run = async (evaluates: boolean) => {
      using training = defineTraining(gpu, loss, { optimizer, steps: 6, lookEvery: 3 });
      const judge = evaluator(gpu, training, {
        sets: SETS,
        metrics: lossMetrics(loss),
        every: 0.5,
        steps: 6,
      });
      const looks: unknown[] = [], found: Awaited<ReturnType<typeof judge.after>>[] = [];
      let state = await training.init(start());
      for await (state of scan(training, state, BATCHES)) {
        if (evaluates) found.push(await judge.after(state));
        if (state.look !== null) looks.push(untimed(state.look));
      }
      const kept = await training.withWeights(state, async ({ w }) => [...await read(gpu, w)]);
      return { bits: [...await read(gpu, state.params.w)], kept, looks, found };
    };
    const [plain, judged] = [await run(false), await run(true)];
    assertEquals([judged.bits, judged.kept, judged.looks], [plain.bits, plain.kept, plain.looks]);
    assertEquals(judged.found.map((one) => one?.step ?? null), [null, null, 3, null, null, 6]);
    const { values } = judged.found[5]!;
    assertEquals(Object.keys(values), ["easy/loss", "easy/perplexity", "hard/loss", "hard/perplexity"]);
    // By hand, in float64: a mean over three labels, as one is left out.
    const lossOf = ({ x, labels }: Batch): number[] => {
      const rows = x.attrs as { readonly data: Float32Array },
        ids = labels.attrs as { readonly data: Int32Array };
      return [...ids.data].flatMap((label, row) => {
        if (label < 0) return [];
        const scores = [0, 1].map((k) =>
          [0, 1, 2].reduce((n, i) => n + rows.data[3 * row + i] * judged.kept[2 * i + k], 0)
        );
        return [Math.log(scores.reduce((n, s) => n + Math.exp(s), 0)) - scores[label]];
      });
    };
    const easy = SETS.easy.flatMap(lossOf), mean = easy.reduce((a, b) => a + b) / easy.length;
    assertEquals(easy.length, 3);
    assertAlmostEquals(values["easy/loss"], mean, 1e-5);
    assertAlmostEquals(values["easy/perplexity"], Math.exp(mean), 1e-5);
  });
}

Deno.test("an evaluator is due at steps, at shares of all steps, and at the last one", () => {
  const dues = (every: number, steps: number): number[] => {
    const training = { withWeights: () => Promise.reject(new Error("it is not asked")) };
    const { due } = evaluator(null as never, training, {
      sets: SETS,
      metrics: lossMetrics(loss),
      every,
      steps,
    });
    return Array.from({ length: steps + 1 }, (_, step) => step).filter(due);
  };
  assertEquals(dues(4, 10), [4, 8, 10]);
  assertEquals(dues(0.1, 30), [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]);
  assertEquals(dues(0.25, 10), [3, 5, 8, 10]);
  assertEquals(dues(0.3, 10), [3, 6, 9, 10]);
  assertEquals(dues(0.01, 5), [1, 2, 3, 4, 5]);
  assertEquals(dues(100, 5), [5]);
  for (const every of [0, -1, 1.5, NaN, Infinity]) {
    assertThrows(() => dues(every, 5), InputError, `got ${every}`);
  }
});

Deno.test("an evaluator refuses a set without batches", () => {
  const training = { withWeights: () => Promise.reject(new Error("it is not asked")) };
  const make = (sets: Record<string, readonly Batch[]>) => () =>
    evaluator(null as never, training, { sets, metrics: lossMetrics(loss), every: 1, steps: 1 });
  assertThrows(make({}), InputError, "there is no set");
  assertThrows(make({ a: BATCHES, b: [] }), InputError, '"b" has none');
});

Deno.test("evaluateMetrics computes a mean once for all metrics of it, and keeps a value that is not finite", async () => {
  await using gpu = await openGpu();
  let traced = 0;
  const mean = ({ w }: Params): Tensor => (traced++, matmul(w, w));
  const metrics = { a: { mean, better: "lower" }, b: { mean, of: Math.log, better: "higher" } } as const;
  const params = { w: tensor([-1], [1, 1]) };
  assertEquals(await evaluateMetrics(gpu, { metrics, params, batches: [{}] }), { a: 1, b: 0 });
  assertEquals(traced, 1);
  const bad = { w: tensor([Infinity], [1, 1]) };
  assertEquals(await evaluateMetrics(gpu, { metrics, params: bad, batches: [{}] }), {
    a: Infinity,
    b: Infinity,
  });
});

Deno.test("followBest counts evaluations without an improvement of minDelta, lower or higher", () => {
  const all = (values: readonly number[], options: Partial<Parameters<typeof followBest>[0]> = {}) => {
    const { init, next } = followBest({ metric: "loss", ...options });
    return values.map((loss, i) => ({ step: i + 1, values: { loss } })).reduce(next, init);
  };
  assertEquals(all([3, 2, 1]), { step: 3, value: 1, since: 0, stop: false });
  assertEquals(all([3, 2, 1], { better: "higher" }), { step: 1, value: 3, since: 2, stop: false });
  assertEquals(all([3, 2.95, 2.9, 2.8], { minDelta: 0.15, patience: 2 }), {
    step: 4,
    value: 2.8,
    since: 0,
    stop: false,
  });
  assertEquals(all([3, 2.95, 2.9], { minDelta: 0.15, patience: 2 }), {
    step: 1,
    value: 3,
    since: 2,
    stop: true,
  });
  assertEquals(all([NaN, Infinity]), { step: null, value: null, since: 2, stop: false });
  assertEquals(all([1, NaN, 1], { patience: 2 }).stop, true);
  assertThrows(() => all([1], { metric: "accuracy" }), InputError, "it must be one of loss");
  assertThrows(() => followBest({ metric: "loss", patience: 0 }), InputError);
  assertThrows(() => followBest({ metric: "loss", minDelta: -1 }), InputError);
});
