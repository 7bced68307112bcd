/**
 * Trains an MLP, an MLP-mixer or a vision transformer on handwritten digits under any freeze policy: models are written
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
  type FreezePolicy,
  type Gpu,
  max,
  multiply,
  type OnProgress,
  reshape,
  scan,
  sum,
  type Tensor,
  tensor,
  type Training,
} from "@firn/train";
import { hostFileSystem } from "@firn/train/data";
import {
  change,
  endingText,
  flopText,
  freezeText,
  openLog,
  percent,
  renderReport,
  reportOf,
  stepLines,
} from "@firn/train/report";
import { CLASSES, type DigitBatch, digitBatches, type Digits, holdOut, readDigits } from "./digits_data.ts";
import { helpOf, oneOf, positive, readFlags, runMain, share, text, whole } from "./flags.ts";
import { GPU_FLAGS, openDevice } from "./gpu.ts";
import type { DigitModel, Recipe } from "./layers.ts";
import { mixer } from "./mixer.ts";
import { mlp } from "./mlp.ts";
import { lockFolder } from "@firn/train/data";
import { checkOutput, claimFolder, nextFree } from "./output.ts";
import { POLICY, policyOf, VALIDATE, validateEvery } from "./policies.ts";
import { print } from "./print.ts";
import { clock, progress, stage } from "./progress.ts";
import { vit } from "./vit.ts";

/** The models by name. */
export const MODELS: { readonly [name in "mlp" | "mixer" | "vit"]: DigitModel } = { mlp, mixer, vit };

const OWN = "that of the model when absent";
const FLAGS = {
  model: oneOf(["mlp", "mixer", "vit"], "what is trained", "mlp"),
  policy: POLICY,
  steps: whole(`optimizer steps; ${OWN}`, null),
  batch: whole(`images in a batch; ${OWN}`, null),
  rate: positive(`largest learning rate; ${OWN}`, null),
  tau: positive(`threshold of gradES; ${OWN}`, null),
  alpha: share("share of the steps in which gradES freezes nothing", 0.5),
  validate: VALIDATE,
  seed: whole("seed of parameters and batches", 0, 0),
  out: text("DIR", "output folder, new or empty; out/digits-N when absent", null),
  ...GPU_FLAGS,
};

const USAGE = `usage: ./firn digits [flags]
       deno run --allow-read --allow-write examples/digits.ts [flags]

Trains a small model on 8,000 digits, tests it on 2,000, and writes metrics.jsonl and report.html.`;

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
  { steps, rate, policy, validation }: Pick<Recipe, "steps" | "rate"> & {
    readonly policy?: FreezePolicy;
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
    policy,
    steps,
    lookEvery: Math.min(10, steps),
    validation,
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

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { values: flags, help } = readFlags(args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS));
  const began = performance.now();
  const model = MODELS[flags.model];
  const { steps, batch, rate, tau } = { ...model.recipe, ...given(flags) };
  const { policy } = await policyOf(flags.policy, { tau, alpha: flags.alpha });
  const out = flags.out ?? await nextFree("out/digits");
  await checkOutput(out, { resumed: false });
  await using gpu = await openDevice(flags);
  print(`adapter    ${gpu.name}${gpu.software ? " (software: right, but slow)" : ""}`);
  const { train: all, test } = await stage("reading     digits", readDigits);
  const every = validateEvery({ ...flags, steps });
  // What decides when to stop is not what the run is judged by.
  const { rest: train, held } = holdOut(all, every === null ? 0 : 0.1);
  const validation = every === null
    ? undefined
    : { batches: digitBatches(held, { batch: 100, seed: 0 }).all(), every };
  const batches = digitBatches(train, { batch, seed: flags.seed });
  const training = digitTraining(gpu, model, { steps, rate, policy, validation });
  let state = await training.init(model.init(flags.seed));
  const tested = () =>
    stage(`testing     on ${test.count} digits`, (say) =>
      accuracy(gpu, model, {
        params: state.params,
        digits: test,
        onProgress: ({ done, total }) => say(`${done} of ${total} batches done`),
      }));
  const before = await tested();
  print(`model      ${flags.model}`);
  print(`data       ${train.count} digits to train on, ${test.count} to test with`);
  if (validation) print(`validation ${held.count} digits, every ${every} steps`);
  print(`policy     ${policy?.name ?? "none"}\n`);

  const folder = await claimFolder(out, { resumed: false });
  await using _lock = await lockFolder(folder);
  const log = await openLog(`${folder}/metrics.jsonl`);
  const config = { ...flags, steps, batch, rate, tau, out: folder, policy: policy?.name ?? "none" };
  await log.add([{ kind: "start", config, adapter: gpu.name, accuracy: before }]);
  const bar = progress(steps);
  bar.update(state.step, ["compiling the training step"]);
  let clockAt = performance.now(), looked = 0;
  for await (state of scan(training, state, batches.from(1))) {
    if (state.step === 1) await log.add([{ kind: "components", components: training.components() }]);
    if (state.look !== null) {
      const stepMs = (performance.now() - clockAt) / (state.step - looked);
      [clockAt, looked] = [performance.now(), state.step];
      await log.add(stepLines(state, { stepMs }));
      const loss = state.look.loss.reduce((a, b) => a + b) / state.look.loss.length;
      bar.update(state.step, [
        `loss ${loss.toFixed(3)}`,
        `${stepMs.toFixed(1)} ms`,
        `frozen ${state.frozen.length}`,
      ]);
    } else bar.move(state.step);
    if (state.event === null) continue;
    await log.add([{ kind: "freeze", ...state.event }]);
    bar.say(freezeText(state.event));
  }
  bar.end();

  const after = await tested();
  await log.add([{ kind: "end", accuracy: after, ...state.ending && { ending: state.ending } }]);
  const [first, last] = [training.costOf([]), state.cost!];
  const components = training.components();
  const summary: [string, string][] = [
    ["Accuracy", `${(100 * after).toFixed(2)} % of ${test.count} digits`],
    ["Frozen", `${state.frozen.length} of ${components.length} components`],
    [
      "FLOP a step",
      `${flopText(first.matmulFlops)} → ${flopText(last.matmulFlops)} (${
        percent(first.matmulFlops, last.matmulFlops)
      })`,
    ],
    ["Launches a step", change(first.launches, last.launches, 0)],
    ["Steps", `${state.step} in ${clock(performance.now() - began)}${endingText(state.ending)}`],
    ["Adapter", gpu.name],
  ];
  const threshold = flags.policy === "gradES" ? { signal: "gradNorm", tau } : undefined;
  const report = reportOf(log.lines, { title: `${flags.model} on digits`, summary, components, threshold });
  await hostFileSystem().write(`${folder}/report.html`, await renderReport(report));
  print();
  for (const [label, value] of summary) print(`${label.toLowerCase().padEnd(15)} ${value}`);
  print(`${"written".padEnd(15)} ${folder}/metrics.jsonl, report.html`);
  print(`${"what froze why".padEnd(15)} ./firn explain ${folder}`);
}

/** The numbers of a recipe that the command line gives. */
function given(
  { steps, batch, rate, tau }: { readonly [key in keyof Recipe]: number | null },
): Partial<Recipe> {
  return Object.fromEntries(
    Object.entries({ steps, batch, rate, tau }).filter(([, value]) => value !== null),
  );
}

if (import.meta.main) await runMain(main, "digits");
