/**
 * LoRA+: second matrices learn faster than first ones.
 *
 * @module
 */

import { checkOptions, checkRange } from "../arguments.ts";
import { adamW, type AdamWOptions } from "./adamw.ts";
import type { Optimizer } from "./optimizer.ts";
import { times } from "./parameter_groups.ts";
import { partition } from "./partition.ts";
import { printRate, type Schedule } from "./schedules.ts";

/** Options of {@link loraPlus}. */
export interface LoraPlusOptions extends AdamWOptions {
  /** How many times faster second matrices, magnitudes and biases learn; 16 in the paper. */
  readonly ratio: number;
  /** Rate of the pairs of tables; 1e-6 when absent, as in PEFT. */
  readonly embeddingRate?: number | Schedule;
}

/**
 * AdamW for LoRA adapters, in which the second matrix of a pair learns `ratio` times faster than the first. Biases get no weight
 * decay, and nothing does unless it is asked for.
 *
 * Source: Hayou et al., "LoRA+", arXiv 2402.12354; groups and defaults are those of `create_loraplus_optimizer` of PEFT.
 *
 * @param options Rate of the first matrices, the ratio, and what AdamW takes; its weight decay is 0 when absent
 * @returns The optimizer
 * @throws {InputError} When a number is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { loraPlus } from "@firn/train/optim";
 *
 * await using gpu = await openGpu();
 * const of = (value: number) => new Map(["q.lora_A.weight", "q.lora_B.weight"].map((path) => [path, tensor([value])]));
 * const optimizer = loraPlus({ learningRate: 0.01, ratio: 16 });
 * const { updates } = optimizer.next(optimizer.init(of(1)), of(5), of(1));
 * // The first step of Adam has the length of the learning rate.
 * assertAlmostEquals((await read(gpu, updates.get("q.lora_A.weight")!))[0], -0.01, 1e-6);
 * assertAlmostEquals((await read(gpu, updates.get("q.lora_B.weight")!))[0], -0.16, 1e-6);
 * ```
 */
export function loraPlus({ ratio, embeddingRate = 1e-6, ...options }: LoraPlusOptions): Optimizer {
  checkOptions("loraPlus", options);
  checkRange("loraPlus", { ratio }, { least: 0 });
  const adam = { weightDecay: 0, ...options },
    fast = { ...adam, learningRate: times(options.learningRate, ratio) };
  const slow = adamW(adam);
  const groups = partition([
    ["*.lora_embedding_*", adamW({ ...adam, learningRate: embeddingRate })],
    ["*.bias", adamW({ ...fast, weightDecay: 0 })],
    [["*.lora_B.*", "*.lora_magnitude_vector"], adamW(fast)],
    ["*", slow],
  ]);
  return {
    ...groups,
    name: `loraPlus(ratio ${ratio}, embeddingRate ${printRate(embeddingRate)}, ${slow.name})`,
  };
}
