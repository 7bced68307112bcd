/**
 * The flags of `finetune`.
 *
 * @module
 */

import { batchFlags, checkBatch } from "./batch_flags.ts";
import { DATA_FLAGS, weightsOf } from "./data_flags.ts";
import { checkEvaluation, EVALUATION_FLAGS, HELD_OUT, setsOf } from "./evaluation_flags.ts";
import { checkExchange, EXCHANGE_FLAGS } from "./exchange_flags.ts";
import { oneOf, positive, text, toggle, topic, UsageError, type Values, whole } from "./flags.ts";
import { checkCached, checkTrained, FREEZING_FLAGS, recordedOf } from "./freezing_flags.ts";
import { GPU_FLAGS, providerOf } from "./gpu.ts";
import { MODEL } from "./hub.ts";
import { checkLora, LORA_FLAGS } from "./lora_flags.ts";
import { PRETRAINED_RATE } from "./model_card.ts";
import { checkObjective, judgedBy, OBJECTIVE_FLAGS } from "./objective_flags.ts";
import { OBSERVE_FLAGS } from "./observe_flags.ts";
import { checkOptimizer, OPTIMIZER_FLAGS } from "./optimizer_flags.ts";
import { checkKeepBest, checkPolicyName } from "./policies.ts";
import { RUN_FLAGS } from "./saved_flags.ts";
import { MAX_SHARD_SIZE } from "./shard_size.ts";

/** Steps where neither steps nor epochs are asked for. */
export const STEPS = 120;

/** The flags of the command. */
export const FLAGS = {
  ...topic("training", {
    model: MODEL,
    steps: whole(`optimizer steps; ${STEPS} where neither they nor --epochs are given`, null),
    epochs: positive("passes over the data, in place of --steps", null),
    ...batchFlags("sequences", 8),
    length: whole("tokens in a sequence", 64, 2),
    lr: positive(
      `largest learning rate, after warm-up; what the model's card recommends when absent, else ${PRETRAINED_RATE}`,
      null,
    ),
    seed: whole("seed of batches and samples", 0, 0),
  }),
  ...DATA_FLAGS,
  ...OBJECTIVE_FLAGS,
  ...OPTIMIZER_FLAGS,
  ...LORA_FLAGS,
  ...topic("memory", {
    precision: oneOf(
      ["f32", "f16", "f32x3"],
      "how intermediate values are stored; f16 saves memory where batches are large (135 M, 8 × 512 tokens: " +
        "2.8 GiB, not 4.4), none where they are small (8 × 64); weights and Adam's moments stay f32. f32x3 stores " +
        "f32, and multiplies it on matrix units (--gpu dawn): about as accurately, but numbers below 2^-38 of the " +
        "largest of their row count as zero",
      "f32",
    ),
  }),
  ...FREEZING_FLAGS,
  ...EVALUATION_FLAGS,
  ...topic("evaluation", {
    prompt: text("TEXT", "beginning of the generated samples", "The whale"),
    "sample-every": whole("steps between samples that are printed while it trains; none when absent", null),
    "no-sample": toggle("generate no samples before and after"),
  }),
  ...topic("run", {
    out: text("DIR", "output folder, new or empty; out/finetune-N when absent", null),
    "max-shard-size": MAX_SHARD_SIZE,
    "dry-run": toggle("print what the run would be and take, and how long, and end: nothing is written"),
  }),
  ...EXCHANGE_FLAGS,
  ...RUN_FLAGS,
  ...OBSERVE_FLAGS,
  ...GPU_FLAGS,
};

/** The first lines of the help. */
export const USAGE = `usage: ./firn finetune [flags]
       deno run --allow-read --allow-write examples/finetune.ts [flags]

Fine-tunes a model on text or rows, a tenth held out, and writes the model, metrics.jsonl, report.html,
and run.toml, which --config takes to do the run again. With --lora, the model stays as it is, and what
is written is an adapter of PEFT; ./firn merge makes a model of both.
Traffic is what the kernels of a step read and write by plan; device memory is the most that buffers took
at a time, for weights, Adam's moments and intermediate values.`;

/** Flags of a run whose learning rate is known. */
export type Flags = Omit<Values<typeof FLAGS>, "lr"> & { readonly lr: number };

/** Flags once the size of batches is known. */
export type Sized = Flags & { readonly batch: number };

/** Flags once the number of steps is known, too. */
export type Planned = Sized & { readonly steps: number };

/**
 * Refuses flags that do not go together.
 *
 * @param values The flags
 * @throws {UsageError} When they do not
 */
export function checkFlags(values: Values<typeof FLAGS>): void {
  const evaluated = values["eval-tokens"] ?? Infinity;
  if (evaluated < values.length) {
    throw new UsageError(`--eval-tokens must fill a sequence of --length ${values.length}: got ${evaluated}`);
  }
  if (values.steps !== null && values.epochs !== null) {
    throw new UsageError("--steps and --epochs both say how long training is: give one");
  }
  if (values.validation !== null && values["held-out"] !== FLAGS["held-out"].fallback) {
    throw new UsageError("--held-out is a share of --data, and --validation takes its place: give one");
  }
  checkEvaluation(values, {
    sets: [HELD_OUT, ...setsOf(values).map(({ name }) => name)],
    metrics: judgedBy(values),
  });
  if (values["show-batch"] !== null && values.batch === "auto") {
    throw new UsageError("--show-batch needs the size of a batch: give --batch N");
  }
  weightsOf(values.data);
  checkPolicyName(values.policy);
  recordedOf(values);
  checkTrained(values);
  checkCached(values);
  checkKeepBest(values);
  providerOf(values);
  checkObjective(values);
  checkLora(values);
  checkOptimizer({ ...values, steps: values.steps ?? (values.epochs === null ? STEPS : Infinity) });
  checkBatch(values);
  checkExchange(values);
}
