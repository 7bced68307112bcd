/**
 * Trains an MLP, an MLP-mixer, a vision transformer or a convolutional net on handwritten digits under any freeze policy: models are written
 * with public ops, and policies know none of them by name.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/digits.ts --help
 * ```
 *
 * @module
 */

import {
  adamW,
  cast,
  chain,
  clipByGlobalNorm,
  cosine,
  countLabels,
  crossEntropy,
  defineTraining,
  equal,
  evaluate,
  flatten,
  type FreezePolicy,
  type Gpu,
  leaf,
  max,
  multiply,
  type OnProgress,
  reshape,
  sum,
  type Tensor,
  tensor,
  type Training,
  type TrainingOptions,
} from "@firn/train";
import type { Ranks } from "@firn/train/ranks";
import { counted, flopText, percent } from "@firn/train/report";
import { batchFlags, checkBatch, chooseBatch } from "./batch_flags.ts";
import {
  CLASSES,
  type DigitBatch,
  type DigitBatches,
  digitBatches,
  type Digits,
  holdOut,
  PIXELS,
  readDigits,
} from "./digits_data.ts";
import { configText } from "./config.ts";
import { convnet } from "./convnet.ts";
import { averagedLooks, checkExchange, EXCHANGE_FLAGS, exchangeOf } from "./exchange_flags.ts";
import { oneOf, positive, runMain, share, text, topic, type Values, whole } from "./flags.ts";
import { helpOf } from "./help.ts";
import { GPU_FLAGS, openShown, providerOf } from "./gpu.ts";
import type { DigitModel, Recipe } from "./layers.ts";
import { mixer } from "./mixer.ts";
import { mlp } from "./mlp.ts";
import { OBSERVE_FLAGS } from "./observe_flags.ts";
import { checkOutput, nextFree } from "./output.ts";
import { checkKeepBest, checkPolicyName, POLICY, policyOf, VALIDATE, validateEvery } from "./policies.ts";
import { survivingRun } from "./lost_run.ts";
import {
  checkGroups,
  checkOptimizer,
  type OptimizerDefaults,
  trainerFlags,
  trainerOf,
} from "./optimizer_flags.ts";
import { print } from "./print.ts";
import { stage } from "./progress.ts";
import { commonFacts, type Joined, onRanks, shareOf, wholeBatch } from "./ranks.ts";
import { freezingRows } from "./savings.ts";
import { costRows, finishRun, openRun, printSummary, type Summary, trainRun } from "./run.ts";
import { readRun, RUN_FLAGS, type RunRequest } from "./saved_flags.ts";
import { vit } from "./vit.ts";

/** The models by name. */
export const MODELS: { readonly [name in "mlp" | "mixer" | "vit" | "convnet"]: DigitModel } = {
  mlp,
  mixer,
  vit,
  convnet,
};

/** Most steps between looks. */
const LOOK_EVERY = 10;

const OWN = "that of the model when absent";
/** How it trains where flags say nothing. */
const OPTIMIZER: OptimizerDefaults = { decayed: "all" };

/** The flags of the command. */
export const FLAGS = {
  ...topic("training", {
    model: oneOf(["mlp", "mixer", "vit", "convnet"], "what is trained", "mlp"),
    steps: whole(`optimizer steps; ${OWN}`, null),
    ...batchFlags(`images (${OWN})`, null),
    rate: positive(`largest learning rate; ${OWN}`, null),
    seed: whole("seed of parameters and batches", 0, 0),
  }),
  ...topic("freezing", {
    policy: POLICY,
    tau: positive(`threshold of gradES; ${OWN}`, null),
    alpha: share("share of the steps in which gradES freezes nothing", 0.5),
    validate: VALIDATE,
  }),
  ...trainerFlags(OPTIMIZER),
  ...topic("run", { out: text("DIR", "output folder, new or empty; out/digits-N when absent", null) }),
  ...EXCHANGE_FLAGS,
  ...RUN_FLAGS,
  ...OBSERVE_FLAGS,
  ...GPU_FLAGS,
};

const USAGE = `usage: ./firn digits [flags]
       deno run --allow-read --allow-write examples/digits.ts [flags]

Trains a small model on 8,000 digits, tests it on 2,000, and writes metrics.jsonl and report.html.`;

/** Steps between looks. */
const looksOf = (steps: number): number => Math.min(LOOK_EVERY, steps);

/**
 * Defines training on digits.
 *
 * @param gpu The device
 * @param model The model
 * @param options Its recipe, and what freezes
 * @returns The reducer
 */
export function digitTraining(
  gpu: Gpu,
  model: DigitModel,
  { steps, rate, policy, validation, trainer, ranks, exchange, lookEvery = looksOf(steps) }:
    & Pick<Recipe, "steps" | "rate">
    & {
      /** The processes that train together; one when absent. */
      readonly ranks?: Ranks;
      /** What they exchange; gradients when absent. */
      readonly exchange?: TrainingOptions<DigitBatch>["exchange"];
      readonly lookEvery?: number;
      readonly policy?: FreezePolicy;
      /** What flags say of steps; AdamW with a cosine behind clipping when absent. */
      readonly trainer?: ReturnType<typeof trainerOf>;
      readonly validation?: { readonly batches: readonly DigitBatch[]; readonly every: number };
    },
): Training<object, DigitBatch> {
  const learningRate = cosine({ peak: rate, warmup: Math.ceil(steps / 20), steps });
  const loss = (params: object, { images, labels }: DigitBatch): Tensor =>
    crossEntropy(model.logits(params, images), labels);
  // A last batch of few digits weighs as much as it has.
  loss.count = ({ labels }: DigitBatch): number => countLabels(labels);
  return defineTraining(gpu, loss, {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate })),
    ...trainer,
    policy,
    steps,
    lookEvery,
    validation,
    ranks,
    exchange,
  });
}

/**
 * Counts how many digits a model recognises.
 *
 * @param gpu The device
 * @param model The model
 * @param options Parameters and digits; who is told of the batches that are done
 * @returns The share, 0 to 1
 */
export async function accuracy(
  gpu: Gpu,
  model: DigitModel,
  { params, digits, onProgress }: {
    readonly params: object;
    readonly digits: Digits;
    readonly onProgress?: OnProgress;
  },
): Promise<number> {
  const classes = tensor(Float32Array.from({ length: CLASSES }, (_, i) => i), [1, CLASSES]);
  const hits = (params: object, { images, labels }: DigitBatch): Tensor => {
    const scores = model.logits(params, images), column = [...labels.shape, 1];
    const best = equal(scores, reshape(max(scores, -1), column));
    return sum(multiply(best, equal(reshape(cast(labels), column), classes)));
  };
  const batches = digitBatches(digits, { batch: Math.min(100, digits.count), seed: 0 }).all();
  const { losses } = await evaluate(gpu, { loss: hits, params, batches, onProgress });
  return losses.reduce((a, b) => a + b) / digits.count;
}

/** Refuses flags that do not go together. */
function checkFlags(flags: Values<typeof FLAGS>): void {
  providerOf(flags);
  checkPolicyName(flags.policy);
  checkKeepBest(flags);
  checkExchange(flags);
  const { recipe } = MODELS[flags.model];
  checkBatch({ ...flags, batch: flags.batch ?? recipe.batch });
  checkOptimizer({ ...flags, steps: flags.steps ?? recipe.steps });
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  await survivingRun(args, runOnce);
}

async function runOnce(args: readonly string[]): Promise<void> {
  const request = await readRun(args, {
    command: "digits",
    table: FLAGS,
    rate: "rate",
    beside: ["policy"],
    check: checkFlags,
  });
  if (request.help) return print(helpOf(USAGE, FLAGS, request.help));
  await onRanks((joined) => trainDigits(request, joined), request.values);
}

async function trainDigits(request: RunRequest<typeof FLAGS>, joined: Joined | null): Promise<void> {
  const began = performance.now(), { values, checkpoint, policyHash } = request;
  const model = MODELS[values.model], recipe = { ...model.recipe, ...given(values) };
  const asked = { ...values, ...recipe, batch: values.batch ?? recipe.batch };
  const { policy, hash } = await policyOf(asked.policy, { ...asked, hash: policyHash });
  const free = asked.out ?? await nextFree("out/digits"), out = await joined?.common(free) ?? free;
  if (!joined?.follows) await checkOutput(out, { resumed: checkpoint !== null });

  await using gpu = await openShown(asked);
  const params = model.init(asked.seed), lookEvery = averagedLooks(asked, looksOf(asked.steps));
  const together = { lookEvery, ranks: joined?.ranks, exchange: exchangeOf(asked) };
  const trainerFor = (accumulate: number) => trainerOf({ ...asked, accumulate, lr: recipe.rate }, OPTIMIZER);
  const flags = {
    ...asked,
    ...chooseBatch<object, DigitBatch>(asked, {
      params,
      ranks: joined?.ranks.size,
      batchOf: (size) => ({
        images: leaf("images", { shape: [size, PIXELS], dtype: "f32" }),
        labels: leaf("labels", { shape: [size], dtype: "i32" }),
      }),
      trainingOf: (accumulate) =>
        digitTraining(gpu, model, { ...recipe, policy, trainer: trainerFor(accumulate), ...together }),
    }),
  };
  const data = await readData({ ...flags, batch: wholeBatch(flags.batch, joined) });
  const trainer = trainerFor(flags.accumulate), { validation } = data;
  const training = digitTraining(gpu, model, { ...recipe, policy, validation, trainer, ...together });
  print(`model       ${flags.model}`);
  print(`data        ${counted(data.count, "digit")} to train on, ${data.test.count} to test with`);
  if (data.validation) {
    print(`validation  ${counted(data.held, "digit")}, every ${counted(data.validation.every, "step")}`);
  }
  print(`policy      ${policy?.name ?? "none"}\n`);

  const measure = (params: object): Promise<number> =>
    stage(`testing     on ${counted(data.test.count, "digit")}`, (say) =>
      accuracy(gpu, model, {
        params,
        digits: data.test,
        onProgress: ({ done, total }) => say(`${done} of ${counted(total, "batch")} done`),
      }));
  checkGroups(flags, [...flatten(params).keys()]);
  const toml = configText("digits", { table: FLAGS, flags, ranks: joined?.ranks.size });
  await joined?.agree({
    ...commonFacts(gpu, params),
    flags: toml,
    policy: hash ?? "",
    step: `${checkpoint?.step ?? 0}`,
  });
  await using run = await openRun(gpu, {
    out,
    joined,
    checkpoint,
    lookEvery,
    observe: flags,
    ...flags.policy === "gradES" && { threshold: { signal: "gradNorm", tau: flags.tau } },
    config: { ...flags, policy: policy?.name ?? "none" },
    before: async () => ({ accuracy: await measure(params) }),
    toml,
  });
  const state = await trainRun(gpu, run, {
    command: "digits",
    request,
    flags,
    policyHash: hash,
    joined,
    training,
    params,
    batches: { from: (step) => shareOf(data.batches.from(step), joined) },
    facts: (losses, { stepMs }) => [
      `loss ${(losses.reduce((a, b) => a + b) / losses.length).toFixed(3)}`,
      `${stepMs.toFixed(1)} ms`,
    ],
  });
  if (joined?.follows) return; // Rank 0 saves and judges what all have made.
  const after = await training.withWeights(state, measure);
  const summary: Summary = [
    ["Accuracy", `${(100 * after).toFixed(2)} % of ${counted(data.test.count, "digit")}`],
    ...costRows(gpu, { training, state, began, flops: flopRow }),
    ...freezingRows(run.log.lines, flags),
  ];
  const title = `${flags.model} on digits`;
  await finishRun(run, { state, training, after: { accuracy: after }, title, summary });
  print();
  printSummary(summary);
  print(`${"written".padEnd(15)} ${run.folder}/metrics.jsonl, report.html`);
  print(`${"what froze why".padEnd(15)} ./firn explain ${run.folder}`);
}

/** What a model is trained on, and what it is judged by. */
interface Data {
  /** Digits to train on. */
  readonly count: number;
  readonly batches: DigitBatches;
  readonly test: Digits;
  /** Digits to validate on. */
  readonly held: number;
  readonly validation: { readonly batches: readonly DigitBatch[]; readonly every: number } | undefined;
}

async function readData(
  flags: Pick<Values<typeof FLAGS>, "policy" | "validate" | "seed"> & Recipe,
): Promise<Data> {
  const { train: all, test } = await stage("reading     digits", readDigits);
  const every = validateEvery(flags);
  // What decides when to stop is not what the run is judged by.
  const { rest: train, held } = holdOut(all, every === null ? 0 : 0.1);
  return {
    count: train.count,
    batches: digitBatches(train, flags),
    test,
    held: held.count,
    validation: every === null
      ? undefined
      : { batches: digitBatches(held, { batch: 100, seed: 0 }).all(), every },
  };
}

function flopRow(first: number, last: number): Summary[number] {
  return ["FLOP a step", `${flopText(first)} → ${flopText(last)} (${percent(first, last)})`];
}

/** The numbers of a recipe that the command line gives. */
function given(
  { steps, rate, tau }: { readonly [key in Exclude<keyof Recipe, "batch">]: number | null },
): Partial<Recipe> {
  return Object.fromEntries(
    Object.entries({ steps, rate, tau }).filter(([, value]) => value !== null),
  );
}

if (import.meta.main) await runMain(main, "digits");
