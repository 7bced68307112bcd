/**
 * Group relative policy optimization with a reward that can be verified: a small model learns two-digit addition from examples for
 * a while, and then from its own answers, which are right or wrong.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/grpo.ts --help
 * ```
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  constantRate,
  defineTraining,
  type Gpu,
  type Model,
  nextTokenLoss,
  readAll,
  scan,
  tensor,
  type TensorTree,
  type TokenBatch,
} from "@firn/train";
import { newAdapter, newModel } from "@firn/train/hub";
import { defineGeneration } from "@firn/train/infer";
import { withoutAdapter } from "@firn/train/models";
import { groupAdvantages, type GrpoBatch, grpoLoss, labelLogProbabilities } from "@firn/train/objectives";
import { counted } from "@firn/train/report";
import {
  ANSWER,
  answerOf,
  batchOf,
  END,
  type Problem,
  problems,
  PROMPT,
  promptOf,
  rewardOf,
  VOCABULARY,
} from "./addition.ts";
import { positive, readFlags, runMain, share, type Values, whole } from "./flags.ts";
import { GPU_FLAGS, openShown } from "./gpu.ts";
import { helpOf } from "./help.ts";
import { print } from "./print.ts";
import { clock, progress } from "./progress.ts";
import { draws } from "./shuffle.ts";

const FLAGS = {
  "warm-steps": whole("steps of supervised training before", 580),
  "warm-lr": positive("their learning rate", 2e-3),
  steps: whole("steps of GRPO", 300),
  prompts: whole("problems of a step", 32),
  group: whole("answers to each problem", 8, 2),
  iterations: whole("steps that learn from the same answers", 1),
  lr: positive("learning rate of GRPO", 2e-3),
  beta: share("how much it costs to leave the model that supervised training left", 0.01),
  rank: whole("rank of the adapter that GRPO trains", 16),
  "held-out": whole("problems that are judged by", 400),
  seed: whole("seed of weights, problems and answers", 0, 0),
  ...GPU_FLAGS,
};

type Flags = Values<typeof FLAGS>;

const USAGE = `usage: deno run --allow-read --allow-write examples/grpo.ts [flags]

A small model learns two-digit addition from examples until it is right now and then, and then from its own answers: a group
of answers to each problem, a reward of 1 for those that are right, and GRPO. What it learns then is a LoRA adapter; the
reference is the same model with the adapter off. Prints the share of held-out problems that it solves, before and after.`;

/** `config.json` of the model. */
export const SOURCE = {
  model_type: "llama",
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  vocab_size: VOCABULARY,
  max_position_embeddings: PROMPT + ANSWER,
  tie_word_embeddings: true,
  eos_token_id: END,
};

/** Rows of a supervised step. */
const WARM_BATCH = 64;

/**
 * Makes the model and teaches it by examples.
 *
 * @param gpu The device
 * @param options The problems, and the flags
 * @returns The model
 */
export async function warmed(
  gpu: Gpu,
  { train, flags }: {
    readonly train: readonly Problem[];
    readonly flags: Pick<Flags, "warm-steps" | "warm-lr" | "seed">;
  },
): Promise<Model> {
  const { "warm-steps": steps, "warm-lr": rate, seed } = flags, below = draws(`examples ${seed}`);
  const model = await newModel(gpu, { source: SOURCE, seed });
  using training = defineTraining(gpu, nextTokenLoss(model), {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: constantRate({ peak: rate, warmup: 20 }) })),
    steps,
    lookEvery: Math.min(10, steps),
  });
  const batches = function* (): Generator<TokenBatch> {
    while (true) {
      const rows = Array.from({ length: WARM_BATCH }, () => train[below(train.length)]);
      yield batchOf(rows.map((problem) => ({ problem, answer: answerOf(problem) })));
    }
  };
  const bar = progress(steps);
  let state = await training.init(model.params as TensorTree as object);
  for await (state of scan(training, state, batches())) {
    if (state.look !== null) bar.update(state.step, [`loss ${state.look.loss.at(-1)!.toFixed(3)}`]);
  }
  bar.end();
  return { ...model, params: state.params };
}

/**
 * Lets a model answer problems.
 *
 * @param gpu The device
 * @param model The model
 * @param options The problems; `temperature`: 0 for the likeliest answers; `seed`
 * @returns The tokens of each answer
 */
export async function answers(
  gpu: Gpu,
  model: Model,
  { problems, ...sampling }: {
    readonly problems: readonly Problem[];
    readonly temperature: number;
    readonly seed: number;
  },
): Promise<readonly (readonly number[])[]> {
  using generation = defineGeneration(gpu, model, { ...sampling, stop: [END], expected: PROMPT + ANSWER });
  const state = await generation.next(await generation.init(problems.map(promptOf)), ANSWER);
  return state.sequences.map(({ tokens, generated }) => tokens.slice(tokens.length - generated));
}

/** The share of problems that a model solves, a part of them at a time. */
async function accuracy(gpu: Gpu, model: Model, judged: readonly Problem[]): Promise<number> {
  const given = await answers(gpu, model, { problems: judged, temperature: 0, seed: 0 });
  return judged.reduce((sum, problem, i) => sum + rewardOf(problem, given[i]), 0) / judged.length;
}

/** What a step of GRPO learns from. */
export interface Rollout {
  readonly batch: GrpoBatch;
  /** The mean reward. */
  readonly reward: number;
}

/**
 * Makes the batch of a step: groups of answers of the policy, their advantages, and what policy and reference find of them.
 *
 * @param gpu The device
 * @param policy The policy, with an adapter
 * @param options The problems, answers to each, the seed of the answers
 * @returns The batch
 */
export async function rollout(
  gpu: Gpu,
  policy: Model,
  { problems, group, seed }: {
    readonly problems: readonly Problem[];
    readonly group: number;
    readonly seed: number;
  },
): Promise<Rollout> {
  const asked = problems.flatMap((problem) => Array.from({ length: group }, () => problem));
  const given = await answers(gpu, policy, { problems: asked, temperature: 1, seed });
  const rewards = asked.map((problem, i) => rewardOf(problem, given[i]));
  const tokens = batchOf(asked.map((problem, i) => ({ problem, answer: given[i] })));
  const [reference, old] = await readAll(gpu, [
    labelLogProbabilities(withoutAdapter(policy), tokens),
    labelLogProbabilities(policy, tokens),
  ]);
  return {
    batch: {
      ...tokens,
      advantages: tensor(groupAdvantages(rewards, { group })),
      reference: tensor(reference, tokens.labels.shape),
      old: tensor(old, tokens.labels.shape),
    },
    reward: rewards.reduce((a, b) => a + b) / rewards.length,
  };
}

/** Trains the policy by its own answers; returns it with what it learned. */
async function improved(
  gpu: Gpu,
  policy: Model,
  { train, flags }: { readonly train: readonly Problem[]; readonly flags: Flags },
): Promise<Model> {
  const { steps, prompts, group, iterations, beta, lr, seed } = flags,
    below = draws(`problems of steps ${seed}`);
  using training = defineTraining(gpu, grpoLoss(policy, { beta }), {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: lr })),
    steps,
    lookEvery: 1,
  });
  const bar = progress(steps), rewards: number[] = [];
  let state = await training.init(policy.params as TensorTree as object);
  while (!state.done) {
    const own = Array.from({ length: prompts }, () => train[below(train.length)]);
    const { batch, reward } = await rollout(gpu, { ...policy, params: state.params }, {
      problems: own,
      group,
      seed: (seed * steps + state.step) * prompts * group,
    });
    rewards.push(reward);
    for (let i = 0; i < iterations && !state.done; i++) state = await training.next(state, batch);
    const mean = rewards.slice(-10).reduce((a, b) => a + b) / Math.min(10, rewards.length);
    const kl = state.look?.metrics?.kl[0];
    bar.update(state.step, [`reward ${mean.toFixed(3)}`, ...kl === undefined ? [] : [`kl ${kl.toFixed(3)}`]]);
  }
  bar.end();
  return { ...policy, params: state.params };
}

/**
 * Runs the example.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { values: flags, help } = readFlags(args, FLAGS);
  if (help) return print(helpOf(USAGE, FLAGS, help));
  const began = performance.now(), percent = (x: number): string => `${(100 * x).toFixed(1)} %`;
  await using gpu = await openShown(flags);
  const { train, held } = problems(flags["held-out"], flags.seed);
  print(`problems    ${train.length} to learn from, ${held.length} held out`);
  const base = await warmed(gpu, { train, flags }), before = await accuracy(gpu, base, held);
  print(`before      ${percent(before)} of held-out problems, after ${flags["warm-steps"]} supervised steps`);
  const policy = await newAdapter(gpu, base, {
    rank: flags.rank,
    alpha: 2 * flags.rank,
    targets: "all-linear",
    seed: flags.seed,
  });
  const after = await accuracy(gpu, await improved(gpu, policy, { train, flags }), held);
  print(
    `after       ${percent(after)}, after ${counted(flags.steps, "step")} of GRPO, in ${
      clock(performance.now() - began)
    }`,
  );
}

if (import.meta.main) await runMain(main, "grpo");
