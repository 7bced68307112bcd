/**
 * Trains a ViT of the library on handwritten digits.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/vision.ts --help
 * ```
 *
 * @module
 */

import {
  classLoss,
  defineTraining,
  flatten,
  type Gpu,
  type ImageBatch,
  type ImageInput,
  leaf,
  logits,
  type Model,
  tensor,
} from "@firn/train";
import { argmax } from "@firn/train/ops";
import { fingerprint } from "@firn/train/data";
import { newModel, saveModel } from "@firn/train/hub";
import { compile } from "@firn/train/infer";
import { batchFlags, checkBatch, chooseBatch } from "./batch_flags.ts";
import { columnsFlag, columnsIn } from "./data_flags.ts";
import { CLASSES, digitBatches, type Digits, readDigits, SIDE } from "./digits_data.ts";
import { averagedLooks, checkExchange, EXCHANGE_FLAGS, exchangeOf } from "./exchange_flags.ts";
import { positive, runMain, text, topic, type Values, whole } from "./flags.ts";
import { CONFIG_FLAGS, readCommand, writeConfig } from "./config.ts";
import { helpOf } from "./help.ts";
import { GPU_FLAGS, openShown } from "./gpu.ts";
import { readImageRows } from "./image_rows.ts";
import { checkOutput } from "./output.ts";
import {
  checkGroups,
  checkOptimizer,
  type OptimizerDefaults,
  optimizerFlags,
  regularizationOf,
  trainerOf,
} from "./optimizer_flags.ts";
import { print } from "./print.ts";
import { clock, stage } from "./progress.ts";
import { commonFacts, type Joined, onRanks, shareOf, wholeBatch } from "./ranks.ts";
import { confusionLines, scoresOf } from "./scores.ts";
import { checkSteps, openSteps, STEP_FLAGS } from "./steps.ts";

/** How it trains where flags say nothing. */
const OPTIMIZER: OptimizerDefaults = { decayed: "all" };

/** The flags of the command. */
export const FLAGS = {
  ...topic("training", {
    data: text("FILE", "rows with an image (PNG or JPEG) and a label; handwritten digits when absent", null),
    columns: columnsFlag(),
    steps: whole("optimizer steps", 600),
    ...batchFlags("images", 32),
    lr: positive("largest learning rate, after warm-up", 2e-3),
    seed: whole("seed of parameters and batches", 0, 0),
  }),
  ...optimizerFlags(OPTIMIZER),
  ...topic("run", {
    ...CONFIG_FLAGS,
    out: text("DIR", "folder for the trained model, new or empty; it is not saved when absent", null),
  }),
  ...EXCHANGE_FLAGS,
  ...STEP_FLAGS,
  ...GPU_FLAGS,
};

type Flags = Values<typeof FLAGS>;

const USAGE = `usage: ./firn vision [flags]
       deno run --allow-read --allow-write examples/vision.ts [flags]

Trains a small ViT on 8,000 digits and tests it on 2,000, or on images of your own, a fifth held out, made grey and small.`;

/** The `config.json` of a ViT of 16 patches, for classes by name. */
const sourceOf = (labels: readonly string[]) => ({
  model_type: "vit",
  architectures: ["ViTForImageClassification"],
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  image_size: SIDE,
  patch_size: 7,
  num_channels: 1,
  // A narrow model learns little from matrices as small as those of large ones.
  initializer_range: 0.1,
  id2label: Object.fromEntries(labels.map((label, i) => [i, label])),
});

/** The names of digits. */
const DIGITS = Array.from({ length: CLASSES }, (_, digit) => `${digit}`);

function imageBatch(images: Float32Array, labels: Int32Array): ImageBatch {
  return { pixelValues: tensor(images, [labels.length, 1, SIDE, SIDE]), labels: tensor(labels) };
}

/**
 * The digit that a model sees in each image.
 *
 * @param gpu The device
 * @param model The model
 * @param digits The images
 * @returns A digit for each
 */
export async function digitsOf(
  gpu: Gpu,
  model: Model<object, ImageInput>,
  digits: Digits,
): Promise<number[]> {
  const batches = digitBatches(digits, { batch: Math.min(200, digits.count), seed: 0, make: imageBatch })
    .all();
  const found: number[] = [];
  using best = compile(gpu, ({ pixelValues }: ImageInput) => argmax(logits(model, { pixelValues }), -1));
  for (const { pixelValues } of batches) found.push(...await best({ pixelValues }));
  return found.slice(0, digits.count);
}

/** Refuses flags that do not go together. */
function checkFlags(flags: Flags): void {
  checkSteps(flags);
  checkBatch(flags);
  checkExchange(flags);
  checkOptimizer(flags);
}

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { values: flags, help } = await readCommand(args, { table: FLAGS, check: checkFlags });
  if (help) return print(helpOf(USAGE, FLAGS, help));
  await onRanks((joined) => trainModel(flags, joined), flags);
}

async function trainModel(asked: Flags, joined: Joined | null): Promise<void> {
  const began = performance.now(), { steps, seed, out } = asked;
  if (out !== null && !joined?.follows) await checkOutput(out, { resumed: false });
  const { data, columns } = asked;
  const { train, test, labels } = data === null
    ? { ...await stage("reading     digits", readDigits), labels: DIGITS }
    : await stage(`reading     ${data}`, () => readImageRows(data, columnsIn(columns)!));
  const source = sourceOf(labels), what = data === null ? "digits" : "images";
  await using gpu = await openShown(asked);
  const model = await newModel<object, ImageInput>(gpu, { source, seed });
  checkGroups(asked, [...flatten(model.params).keys()]);
  print(`model       ViT, ${source.num_hidden_layers} blocks of ${source.hidden_size} channels`);
  print(`data        ${train.count} ${what} to train on, ${test.count} to test with\n`);
  const trainingOf = (accumulate: number) =>
    defineTraining(gpu, classLoss(model, regularizationOf(asked)), {
      ...trainerOf({ ...asked, accumulate }, OPTIMIZER),
      steps,
      lookEvery: averagedLooks(asked, Math.min(10, steps)),
      ranks: joined?.ranks,
      exchange: exchangeOf(asked),
    });
  const flags = {
    ...asked,
    ...chooseBatch<object, ImageBatch>(asked, {
      params: model.params,
      ranks: joined?.ranks.size,
      available: train.count,
      batchOf: (size) => ({
        pixelValues: leaf("pixelValues", { shape: [size, 1, SIDE, SIDE], dtype: "f32" }),
        labels: leaf("labels", { shape: [size], dtype: "i32" }),
      }),
      trainingOf,
    }),
  };
  const training = trainingOf(flags.accumulate), batch = wholeBatch(flags.batch, joined);
  await joined?.agree({
    ...commonFacts(gpu, model.params),
    flags: JSON.stringify({ ...flags, out: null }),
    data: fingerprint([train.images, train.labels]),
  });
  await using taken = await openSteps(gpu, { flags, config: { model: "ViT", ...flags }, joined });
  const batches = shareOf(digitBatches(train, { batch, seed, make: imageBatch }).from(1), joined);
  const { params, step } = await taken.take(training, { params: model.params, batches, steps });
  if (joined?.follows) return; // Rank 0 saves and judges what all have made.
  const after = { ...model, params };
  const scores = scoresOf(test.labels, await digitsOf(gpu, after, test), labels.length);
  print();
  for (const line of confusionLines(scores, labels)) print(line);
  print();
  print(`${"accuracy".padEnd(15)} ${(100 * scores.accuracy).toFixed(2)} % of ${test.count} ${what}`);
  await taken.finish({ accuracy: scores.accuracy });
  if (flags.out !== null) {
    await saveModel(gpu, after, { folder: flags.out });
    await writeConfig(flags.out, { command: "vision", table: FLAGS, flags, ranks: joined?.ranks.size });
    print(`${"written".padEnd(15)} ${flags.out}`);
  }
  print(`${"steps".padEnd(15)} ${step} in ${clock(performance.now() - began)}`);
}

if (import.meta.main) await runMain(main, "vision");
