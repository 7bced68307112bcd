/**
 * Losses of 20 steps of each objective beside float64 by the formulas of its paper, and beside TRL (`fixtures/objectives.py`).
 *
 * @module
 */

import { assertAlmostEquals } from "@std/assert";
import {
  defineTraining,
  flatten,
  free,
  freeState,
  type Loss,
  type Model,
  readAll,
  scan,
  sgd,
  type Tensor,
  tensor,
  type TensorTree,
  unflatten,
} from "@firn/train";
import { loadModel } from "@firn/train/hub";
import {
  distillationLoss,
  dpoLoss,
  grpoLoss,
  ktoLoss,
  labelLogProbabilities,
  orpoLoss,
  rewardLoss,
} from "@firn/train/objectives";
import { openTestGpu } from "../reference/open_gpu.ts";
import { random } from "../reference/values.ts";

interface Case {
  readonly lr: number;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly batches: readonly Readonly<Record<string, readonly number[] | readonly (readonly number[])[]>>[];
  readonly losses: readonly number[];
  readonly trl?: readonly number[];
}

const CASES: Readonly<Record<string, Case>> = JSON.parse(
  await Deno.readTextFile(new URL("../fixtures/objectives.json", import.meta.url)),
);
const FOLDER = "tests/fixtures/llama";
const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const base = await loadModel(gpu, FOLDER);

/** Names of entries as Firn has them. */
const NAMES: Readonly<Record<string, string>> = { ids: "inputIds", mask: "attentionMask" };
const INTEGERS = ["inputIds", "labels", "attentionMask"];

function batchesOf({ batches }: Case): TensorTree[] {
  return batches.map((entries) =>
    Object.fromEntries(
      Object.entries(entries).map(([key, values]) => {
        const name = NAMES[key] ?? key, flat = values.flat();
        const shape = Array.isArray(values[0]) ? [values.length, values[0].length] : [values.length];
        return [
          name,
          tensor(INTEGERS.includes(name) ? Int32Array.from(flat) : Float32Array.from(flat), shape),
        ];
      }),
    )
  );
}

/** Batches with log-probabilities of the model before training: of answers, or of each token. */
async function withReference(batches: readonly TensorTree[], perToken: boolean): Promise<TensorTree[]> {
  const found = await readAll(gpu, batches.map((batch) => labelLogProbabilities(base, batch as never)));
  return batches.map((batch, i) => {
    const [rows, time] = (batch as unknown as { readonly labels: Tensor }).labels.shape;
    const values = found[i] as Float32Array;
    const sums = Float32Array.from(
      { length: rows },
      (_, row) => values.subarray(row * time, (row + 1) * time).reduce((a, b) => a + b, 0),
    );
    return { ...batch, reference: perToken ? tensor(values, [rows, time]) : tensor(sums) };
  });
}

async function teacher(): Promise<Model> {
  const leaves = [...flatten(base.params)], values = await readAll(gpu, leaves.map(([, t]) => t));
  const params = unflatten(
    new Map(leaves.map(([path, { shape }], i) => [path, tensor(values[i].map((x) => 1.5 * x), shape)])),
  );
  return { ...base, params };
}

async function rewardModel(): Promise<Model> {
  const architecture = "LlamaForSequenceClassification";
  const model = await loadModel(gpu, FOLDER, { architecture, labels: ["reward"], seed: 0 });
  const { data, shape } = random([1, 32], { seed: 5 });
  return { ...model, params: { ...model.params, score: { weight: tensor(Float32Array.from(data), shape) } } };
}

/** Losses of 20 steps of plain gradient descent. */
async function descend(
  model: Model,
  loss: Loss<object, never>,
  { lr, batches }: { readonly lr: number; readonly batches: readonly TensorTree[] },
): Promise<readonly number[]> {
  const training = defineTraining(gpu, loss as unknown as Loss<TensorTree, TensorTree>, {
    optimizer: sgd({ learningRate: lr }),
    steps: 20,
    lookEvery: 20,
  });
  const endless = function* (): Generator<TensorTree> {
    for (let i = 0;; i++) yield batches[i % batches.length];
  };
  let state = await training.init(model.params as TensorTree), losses: readonly number[] = [];
  for await (state of scan(training, state, endless())) losses = state.look?.loss ?? losses;
  freeState(state);
  training[Symbol.dispose]();
  return losses;
}

type Make = (model: Model, settings: never) => Loss<object, never>;

/** Objectives by the beginning of the name of a case; which reference their batches have. */
const OBJECTIVES: readonly (readonly [name: string, make: Make, reference: "rows" | "tokens" | null])[] = [
  ["dpo", dpoLoss as Make, "rows"],
  ["ipo", (model, settings: object) => dpoLoss(model, { ...settings, type: "ipo" }) as never, "rows"],
  ["cdpo", dpoLoss as Make, "rows"],
  ["orpo", orpoLoss as Make, null],
  ["kto", ktoLoss as Make, "rows"],
  ["reward", rewardLoss as Make, null],
  ["distillation", distillationLoss as Make, null],
  ["grpo", grpoLoss as Make, "tokens"],
];

for (const [name, own] of Object.entries(CASES)) {
  Deno.test(`20 steps of ${name} have the losses of float64${own.trl === undefined ? "" : " and of TRL"}`, async () => {
    const [, make, reference] = OBJECTIVES.find(([begin]) => name.startsWith(begin))!;
    const model = name === "reward" ? await rewardModel() : base;
    const settings = name.startsWith("distillation")
      ? { ...own.settings, teacher: await teacher() }
      : own.settings;
    const plain = batchesOf(own);
    const batches = reference === null ? plain : await withReference(plain, reference === "tokens");
    const losses = await descend(model, make(model, settings as never), { lr: own.lr, batches });
    // f32 beside float64: descent carries a rounding on. TRL computes in f32 itself.
    own.losses.forEach((loss, i) => assertAlmostEquals(losses[i], loss, 2e-4 * Math.max(1, Math.abs(loss))));
    own.trl?.forEach((loss, i) => assertAlmostEquals(losses[i], loss, 4e-4 * Math.max(1, Math.abs(loss))));
    if (model !== base) free(model.params);
  });
}
