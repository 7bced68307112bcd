/**
 * What a teacher finds likeliest, computed once before training.
 *
 * @module
 */

import { checkRange, refuse } from "../arguments.ts";
import { recordSeries } from "../infer/series.ts";
import type { Model } from "../models/model.ts";
import { checkTask, logits, type TokenBatch } from "../models/tasks.ts";
import { cast, divide } from "../ops/arithmetic.ts";
import { logSoftmax } from "../ops/log_sum_exp.ts";
import { stack } from "../ops/axes.ts";
import { topK } from "../ops/top_k.ts";
import type { Gpu, OnProgress } from "../runtime/device.ts";
import { tensor } from "../sources.ts";
import type { DistillationBatch } from "./distillation.ts";

/** Options of {@link withTeacher}. */
export interface TeacherOptions {
  /** Batches of one shape. */
  readonly batches: readonly TokenBatch[];
  /** How many tokens of each position are kept, K. */
  readonly keep: number;
  /** The temperature of the objective; 1 when absent. */
  readonly temperature?: number;
  /** Called with the batches that are done, about twice a second. */
  readonly onProgress?: OnProgress;
}

/**
 * Computes the likeliest next tokens of a teacher at each position, so that training needs it no more. They take 8 K bytes a
 * token.
 *
 * @param gpu The device
 * @param teacher The teacher
 * @param options The batches, how many tokens are kept, the temperature
 * @returns The batches for `distillationLoss` without a teacher
 * @throws {InputError} When the teacher does not predict tokens, or a number is out of its range
 */
export async function withTeacher(
  gpu: Gpu,
  teacher: Model,
  { batches, keep, temperature = 1, onProgress }: TeacherOptions,
): Promise<readonly DistillationBatch[]> {
  checkTask(teacher, ["nextToken"]);
  checkRange("withTeacher", { temperature }, { least: Number.MIN_VALUE });
  if (!(Number.isSafeInteger(keep) && keep > 0)) {
    refuse("withTeacher", '"keep" must be a whole number above 0', keep);
  }
  const series = await recordSeries(gpu, {
    compute: ({ labels: _, ...input }: TokenBatch) => {
      const { values, indices } = topK(logSoftmax(divide(logits(teacher, input), temperature)), keep);
      return stack([values, cast(indices)], 0);
    },
    batches,
    onProgress,
  });
  try {
    series.check();
    const found = await series.run(), each = found.length / batches.length;
    return batches.map((batch, i): DistillationBatch => {
      const own = found.subarray(i * each, (i + 1) * each), shape = [...batch.inputIds.shape, keep];
      return {
        ...batch,
        teacherLogProbabilities: tensor(own.slice(0, each / 2), shape),
        teacherIds: tensor(Int32Array.from(own.subarray(each / 2)), shape),
      };
    });
  } finally {
    series.destroy();
  }
}
