/**
 * What `finetune --dry-run` prints: what the run would be and take.
 *
 * @module
 */

import type { Gpu, Loss, TokenBatch, Training } from "@firn/train";
import { saveAdapter, saveModel } from "@firn/train/hub";
import { estimateRun, printPlan } from "./dry_run.ts";
import type { Planned } from "./finetune_flags.ts";
import { lookEvery, type Plan, type Subject } from "./finetune_plan.ts";
import { validateEvery } from "./policies.ts";
import { continueText } from "./sample.ts";
import type { TrainData } from "./train_data.ts";

/** A run that is shown, and not taken. */
export interface AskedPlan {
  readonly plan: Plan<Planned>;
  readonly subject: Subject;
  readonly data: Pick<TrainData, "batches" | "held" | "sets" | "watched" | "tokensPerStep" | "epoch">;
  /** How many batches the model is judged by before and after it trains; those of `data` when absent, which may be fewer. */
  readonly judged?: number;
  readonly training: Training<object, TokenBatch>;
  /** The loss of evaluations. */
  readonly loss: Loss<object, TokenBatch>;
  /** Texts that it writes before and after it trains. */
  readonly samples: number;
  /** Rows of a sample; 1 when absent. */
  readonly rows?: number;
  readonly toml: string;
  /** When the command began, and milliseconds in which the model was loaded. */
  readonly began: number;
  readonly loadMs: number;
}

/**
 * Takes a few steps that are thrown away, and prints what the run would be and take.
 *
 * @param gpu The device
 * @param asked The run
 */
export async function showPlan(gpu: Gpu, asked: AskedPlan): Promise<void> {
  const { plan: { flags, policy, joined }, subject, data, training, toml, began, loss } = asked;
  const { base } = subject, { steps } = flags, evaluates = flags["evaluate-every"];
  const { judged = data.held.length, rows = 1 } = asked;
  const evaluations = evaluates === null ? 0 : Math.ceil(evaluates < 1 ? 1 / evaluates : steps / evaluates);
  const others = Object.values(data.sets).reduce((n, { length }) => n + length, 0);
  const validations = data.watched === undefined ? 0 : Math.ceil(steps / validateEvery(flags)!);
  const shown = flags["sample-every"] === null ? 0 : Math.floor((steps - 1) / flags["sample-every"]);
  const samples = asked.samples + shown + evaluations * flags.sample.length;
  const estimate = await estimateRun(gpu, {
    ...data,
    base,
    training,
    steps,
    most: policy === undefined && data.watched === undefined ? steps : Math.max(1, lookEvery(flags) - 1),
    loss,
    judged: 2 * judged + validations * (data.watched?.length ?? 0) + evaluations * (judged + others),
    sample: samples === 0 ? null : () => continueText(gpu, base, { ...subject, ...flags, quiet: true }),
    samples,
    checkpoint: flags.checkpoint,
    save: (state, fileSystem) =>
      training.withWeights(
        state,
        (params) =>
          base.adapter !== undefined
            ? saveAdapter(gpu, { ...base, params }, { folder: "adapter", fileSystem })
            : saveModel(gpu, { ...base, params }, { folder: "model", files: subject.files, fileSystem }),
      ),
    setupMs: performance.now() - began,
    loadMs: asked.loadMs,
    common: joined?.common,
  });
  const batch = rows * flags.batch;
  printPlan({ ...flags, ...data, batch, base, estimate, toml, ranks: joined?.ranks.size });
}
