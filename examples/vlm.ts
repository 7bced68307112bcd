/**
 * Trains a small SmolVLM from nothing to answer questions about handwritten digits, and freezes each tower by a threshold of
 * its own.
 *
 * Source: the GradES paper freezes vision-language models so, arXiv 2509.01842.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/vlm.ts --help
 * ```
 *
 * @module
 */

import {
  defineTraining,
  flatten,
  type Gpu,
  leaf,
  logits,
  type Model,
  nextTokenLoss,
  type Tensor,
  tensor,
} from "@firn/train";
import { argmax } from "@firn/train/ops";
import type { ImageTextInput } from "@firn/train/models";
import { newModel, saveModel } from "@firn/train/hub";
import { compile } from "@firn/train/infer";
import { gradES } from "@firn/train/policies";
import { batchFlags, checkBatch, chooseBatch, tokensOf } from "./batch_flags.ts";
import { digitBatches, type Digits, readDigits, SIDE } from "./digits_data.ts";
import { averagedLooks, checkExchange, EXCHANGE_FLAGS, exchangeOf } from "./exchange_flags.ts";
import { positive, runMain, share, text, topic, type Values, whole } from "./flags.ts";
import { CONFIG_FLAGS, readCommand, writeConfig } from "./config.ts";
import { helpOf } from "./help.ts";
import { GPU_FLAGS, openShown } from "./gpu.ts";
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
import { checkSteps, openSteps, STEP_FLAGS } from "./steps.ts";

/** How it trains where flags say nothing. */
const OPTIMIZER: OptimizerDefaults = { decayed: "all" };

/** The flags of the command. */
export const FLAGS = {
  ...topic("training", {
    steps: whole("optimizer steps", 300),
    ...batchFlags("images", 32),
    lr: positive("largest learning rate, after warm-up", 3e-3),
    "tau-vision": positive("threshold of gradES for the image tower", 0.5),
    "tau-text": positive("threshold of gradES for the decoder", 2),
    alpha: share("share of the steps in which gradES freezes nothing", 0.5),
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

const USAGE = `usage: ./firn vlm [flags]
       deno run --allow-read --allow-write examples/vlm.ts [flags]

Trains a small SmolVLM to say which digit an image shows and whether it is even, and tests it on 2,000 digits.`;

const DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
/** All words that the model knows; the first stands for a state of the image. */
const WORDS = ["<image>", ...DIGITS, "what", "is", "the", "number", "even", "yes", "no", "?"];
const idOf = (word: string): number => WORDS.indexOf(word);

/** States of an image: 4 by 4 patches, of which squares of 2 by 2 are joined. */
const STATES = 4;
const QUESTIONS = ["what is the number ?", "is the number even ?"];
const LENGTH = STATES + QUESTIONS[0].split(" ").length + 1;

/** The `config.json` of the model. */
const SOURCE = {
  model_type: "smolvlm",
  architectures: ["SmolVLMForConditionalGeneration"],
  image_token_id: 0,
  scale_factor: 2,
  tie_word_embeddings: true,
  // A narrow model learns little from matrices as small as those of large ones.
  initializer_range: 0.1,
  vision_config: {
    hidden_size: 48,
    intermediate_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    image_size: SIDE,
    patch_size: 7,
    num_channels: 1,
  },
  text_config: {
    model_type: "llama",
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: WORDS.length,
    max_position_embeddings: 32,
  },
};

/** Images with questions and answers. */
interface Batch extends ImageTextInput {
  /** i32 [B, T]: the answer, -100 elsewhere. */
  readonly labels: Tensor;
}

/** The answer to a question. */
function answerTo(question: number, digit: number): string {
  return question === 0 ? DIGITS[digit] : digit % 2 === 0 ? "yes" : "no";
}

/** Asks one question about every image, or both by turns where `only` is null. */
const batchOf = (only: number | null) => (images: Float32Array, digits: Int32Array): Batch => {
  const rows = digits.length,
    ids = new Int32Array(rows * LENGTH),
    labels = new Int32Array(rows * LENGTH).fill(-100);
  digits.forEach((digit, row) => {
    const question = only ?? row % QUESTIONS.length, answer = idOf(answerTo(question, Math.max(0, digit)));
    const words = QUESTIONS[question].split(" ").map(idOf);
    ids.set([...Array(STATES).fill(idOf("<image>")), ...words, answer], row * LENGTH);
    if (digit >= 0) labels[(row + 1) * LENGTH - 1] = answer;
  });
  return {
    inputIds: tensor(ids, [rows, LENGTH]),
    pixelValues: tensor(images, [rows, 1, 1, SIDE, SIDE]),
    labels: tensor(labels, [rows, LENGTH]),
  };
};

/**
 * How often a model answers a question right.
 *
 * @param gpu The device
 * @param model The model
 * @param options Digits, and which question
 * @returns The share, 0 to 1
 */
export async function answersRight(
  gpu: Gpu,
  model: Model<object, ImageTextInput>,
  { digits, question }: { readonly digits: Digits; readonly question: number },
): Promise<number> {
  const batch = Math.min(200, digits.count), found: number[] = [];
  using answers = compile(gpu, (input: Batch) => argmax(logits(model, input), -1)); // [B, T]
  for (const input of digitBatches(digits, { batch, seed: 0, make: batchOf(question) }).all()) {
    const said = await answers(input);
    for (let row = 0; row < batch; row++) found.push(said[(row + 1) * LENGTH - 2]);
  }
  const right = digits.labels.filter((digit, i) => found[i] === idOf(answerTo(question, digit)));
  return right.length / digits.count;
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
  const began = performance.now(), { steps, seed, alpha, out } = asked;
  if (out !== null && !joined?.follows) await checkOutput(out, { resumed: false });
  const { train, test } = await stage("reading     digits", readDigits);
  await using gpu = await openShown(asked);
  const model = await newModel<object, ImageTextInput>(gpu, { source: SOURCE, seed });
  checkGroups(asked, [...flatten(model.params).keys()]);
  print(`model       SmolVLM, 2 blocks for images and 2 for text, ${WORDS.length} words`);
  print(`data        ${train.count} digits to train on, ${test.count} to test with\n`);
  const tau = { "*.vision_model.*": asked["tau-vision"], "*.text_model.*": asked["tau-text"] };
  const loss = nextTokenLoss<object, ImageTextInput>(model, regularizationOf(asked));
  const trainingOf = (accumulate: number) =>
    defineTraining(gpu, loss, {
      ...trainerOf({ ...asked, accumulate }, OPTIMIZER),
      policy: gradES({ tau, alpha }),
      steps,
      lookEvery: averagedLooks(asked, Math.min(10, steps)),
      ranks: joined?.ranks,
      exchange: exchangeOf(asked),
    });
  const flags = {
    ...asked,
    ...chooseBatch<object, Batch>(asked, {
      params: model.params,
      ranks: joined?.ranks.size,
      available: train.count,
      batchOf: (size) => ({
        ...tokensOf(size, { length: LENGTH }),
        pixelValues: leaf("pixelValues", { shape: [size, 1, 1, SIDE, SIDE], dtype: "f32" }),
      }),
      trainingOf,
    }),
  };
  const training = trainingOf(flags.accumulate), batch = wholeBatch(flags.batch, joined);
  await joined?.agree({ ...commonFacts(gpu, model.params), flags: JSON.stringify({ ...flags, out: null }) });
  const config = { model: "SmolVLM", data: "digits", ...flags };
  await using taken = await openSteps(gpu, { flags, config, joined });
  const batches = shareOf(digitBatches(train, { batch, seed, make: batchOf(null) }).from(1), joined);
  const state = await taken.take(training, { params: model.params, batches, steps });
  if (joined?.follows) return; // Rank 0 saves and judges what all have made.
  const after = { ...model, params: state.params };
  const rights: number[] = [];
  print();
  for (const [question, words] of QUESTIONS.entries()) {
    const right = await answersRight(gpu, after, { digits: test, question });
    print(`${words.padEnd(22)} ${(100 * right).toFixed(2)} % right of ${test.count}`);
    rights.push(right);
  }
  await taken.finish({ accuracy: rights.reduce((a, b) => a + b) / rights.length });
  for (const tower of ["vision_model", "text_model"]) {
    const mine = (path: string): boolean => path.includes(`.${tower}.`);
    const count = training.components().filter(({ path }) => mine(path)).length;
    print(`${`frozen in ${tower}`.padEnd(22)} ${state.frozen.filter(mine).length} of ${count} components`);
  }
  if (flags.out !== null) {
    await saveModel(gpu, after, { folder: flags.out });
    await writeConfig(flags.out, { command: "vlm", table: FLAGS, flags, ranks: joined?.ranks.size });
    print(`${"written".padEnd(22)} ${flags.out}`);
  }
  print(`${"steps".padEnd(22)} ${state.step} in ${clock(performance.now() - began)}`);
}

if (import.meta.main) await runMain(main, "vlm");
