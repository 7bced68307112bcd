/**
 * Judges a model while it trains, on one or several sets.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Gpu } from "../runtime/device.ts";
import type { Training, TrainingState } from "../train/types.ts";
import type { TensorTree } from "../tree.ts";
import { evaluateMetrics } from "./evaluate_metrics.ts";
import type { Metrics } from "./metrics.ts";

/** What a model was judged to be after a step. JSON. */
export type Evaluation = {
  /** The step. */
  readonly step: number;
  /** Values by set and metric, `"held-out/loss"`. */
  readonly values: { readonly [name: string]: number };
};

/** Options of {@link evaluator}. */
export interface EvaluatorOptions<P extends object, B extends object> {
  /** Batches of each set, of one shape. */
  readonly sets: { readonly [set: string]: readonly B[] };
  /** What is computed on each set. */
  readonly metrics: Metrics<P, B>;
  /** Steps between evaluations; below 1 the share of all steps. The last step is judged in any case. */
  readonly every: number;
  /** Steps in all. */
  readonly steps: number;
}

/** Judges the states of a training. */
export interface Evaluator<P extends TensorTree> {
  /** Which values are better, by the names that evaluations have. */
  readonly better: { readonly [name: string]: "lower" | "higher" };
  /** Whether a step is to be judged. */
  due(step: number): boolean;
  /**
   * Judges a state where its step is due; null where it is not. It reads the weights that the training would keep, with
   * buffers of its own, and changes no bit of the run.
   *
   * @throws {ConsumedError} When a step has consumed the state
   */
  after(state: TrainingState<P>): Promise<Evaluation | null>;
}

/**
 * Makes an evaluator. Where to begin and when to stop is the matter of {@link followBest}.
 *
 * @param gpu The device
 * @param training The training whose states are judged
 * @param options Sets, metrics, how often
 * @returns The evaluator
 * @throws {InputError} When there is no set, a set is empty, or `every` is not a number above 0, nor a whole number from 1
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { defineTraining, multiply, openGpu, scan, sgd, sum, type Tensor, tensor } from "@firn/train";
 * import { evaluator, lossMetrics } from "@firn/train/evaluation";
 *
 * await using gpu = await openGpu();
 * const loss = ({ w }: { w: Tensor }, { x }: { x: Tensor }): Tensor => sum(multiply(w, x));
 * const training = defineTraining(gpu, loss, { optimizer: sgd({ learningRate: 1 }), steps: 4 });
 * const sets = { easy: [{ x: tensor([1]) }], hard: [{ x: tensor([10]) }] };
 * const { loss: metric } = lossMetrics(loss), judge = evaluator(gpu, training, { sets, metrics: { loss: metric }, every: 0.5, steps: 4 });
 * const found: unknown[] = [];
 * for await (const state of scan(training, await training.init({ w: tensor([0]) }), Array(4).fill({ x: tensor([1]) }))) {
 *   const evaluation = await judge.after(state);
 *   if (evaluation !== null) found.push(evaluation);
 * }
 * assertEquals(found, [
 *   { step: 2, values: { "easy/loss": -2, "hard/loss": -20 } },
 *   { step: 4, values: { "easy/loss": -4, "hard/loss": -40 } },
 * ]);
 * ```
 */
export function evaluator<P extends TensorTree, B extends TensorTree>(
  gpu: Gpu,
  training: Pick<Training<P, never>, "withWeights">,
  { sets, metrics, every, steps }: EvaluatorOptions<P, B>,
): Evaluator<P> {
  const names = Object.keys(sets), empty = names.find((name) => sets[name].length === 0);
  if (names.length === 0 || empty !== undefined) {
    throw new InputError(
      `Cannot evaluate as each set must have a batch: ${
        empty === undefined ? "there is no set" : `"${empty}" has none`
      }`,
    );
  }
  if (!(every > 0 && (every < 1 || Number.isSafeInteger(every)))) {
    throw new InputError(
      `Cannot evaluate as "every" must be a whole number of steps, or a share of them below 1: got ${every}`,
    );
  }
  const distance = every < 1 ? Math.max(1, every * steps) : every;
  const due = (step: number): boolean =>
    step === steps || step > 0 && Math.round(Math.round(step / distance) * distance) === step;
  return {
    better: Object.fromEntries(
      names.flatMap((set) => Object.entries(metrics).map(([name, { better }]) => [`${set}/${name}`, better])),
    ),
    due,
    async after(state) {
      if (!due(state.step)) return null;
      const values = await training.withWeights(state, async (params) => {
        const found: Record<string, number> = {};
        for (const set of names) {
          const judged = await evaluateMetrics(gpu, { metrics, params, batches: sets[set] });
          for (const [name, value] of Object.entries(judged)) found[`${set}/${name}`] = value;
        }
        return found;
      });
      return { step: state.step, values };
    },
  };
}
