/**
 * Losses: functions that say how many labels they are the mean of, and which parameters they are for.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { IGNORE } from "../ops/cross_entropy.ts";
import { hostValues, isHost } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type Path } from "../tree.ts";

/**
 * From parameters and a batch to a scalar: a mean over the labels of the batch. A plain function is a loss; the properties
 * are optional.
 *
 * @typeParam P Parameters
 * @typeParam B A batch
 */
export interface Loss<P extends object, B extends object> {
  /** Builds the graph of the loss, f32 scalar. Training says so, for losses with dropout; evaluation and validation do not. */
  (params: P, batch: B, mode?: LossMode): Tensor;
  /**
   * How many labels of a batch the loss is the mean of, a number from 0; 1 when absent. Means over batches are weighted by
   * it. A batch that counts 0 has no loss: training does not move by it, and evaluation leaves it out. Without this
   * function, a batch whose labels are all -100 is refused.
   */
  count?(batch: B): number;
  /** Which parameters are trained, where the options of training do not say it; all when absent. */
  readonly trainable?: (path: Path) => boolean;
  /** Fingerprint of the model that it is the loss of; a saved state goes on only where it is equal. */
  readonly model?: string;
  /** Further numbers of a batch, which looks have beside the loss; none when absent. */
  readonly metrics?: LossMetrics<P, B>;
}

/** Numbers that a loss has beside its value, such as rewards of preferences. */
export interface LossMetrics<P extends object, B extends object> {
  /** What they are called, in order. */
  readonly names: readonly string[];
  /**
   * Builds their graph: f32 scalars, one a name, each a mean over what the loss is the mean of. What it has in common with
   * that of the loss is computed once.
   */
  compute(params: P, batch: B, mode?: LossMode): readonly Tensor[];
}

/** What a loss is computed for. */
export interface LossMode {
  /** Whether it is to be trained by; false when absent. */
  readonly training?: boolean;
}

/**
 * A {@link Loss} whose parameters have a type that is known elsewhere. Written as a method, which TypeScript compares without
 * regard to the type of its arguments.
 */
export type LossOn<B extends object> =
  & { loss(params: object, batch: B): Tensor }["loss"]
  & { count?(batch: B): number };

/**
 * Counts the labels that a loss does not ignore, for the `count` of a {@link Loss}.
 *
 * @param labels i32, made from values; -100 is ignored
 * @returns The number of the others
 * @throws {InputError} When the labels are computed, or live on the device
 *
 * @example A loss that tells its weight
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { countLabels, crossEntropy, type Loss, matmul, type Tensor, tensor } from "@firn/train";
 *
 * type Batch = { readonly x: Tensor; readonly labels: Tensor };
 * const loss = ({ w }: { w: Tensor }, { x, labels }: Batch): Tensor => crossEntropy(matmul(x, w), labels);
 * loss.count = ({ labels }: Batch): number => countLabels(labels);
 * const weighted: Loss<{ w: Tensor }, Batch> = loss;
 * assertEquals(weighted.count!({ x: tensor([1, 2], [2, 1]), labels: tensor(new Int32Array([3, -100])) }), 1);
 * ```
 */
export function countLabels(labels: Tensor): number {
  return (hostValues(labels, "labels") as Int32Array).reduce((n, label) => label === IGNORE ? n : n + 1, 0);
}

/**
 * Counts the tokens that a batch asks to predict: the `count` of `nextTokenLoss`.
 *
 * @param batch `labels`: i32 [B, T], made from values
 * @returns Positions with a label, except the first of each window, which nothing precedes
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { predictions, tokenWindows } from "@firn/train/data";
 *
 * const batches = tokenWindows(new Int32Array(11), { length: 8, batch: 1 }).all();
 * assertEquals(batches.map(predictions), [7, 2]);
 * ```
 */
export function predictions({ labels }: { readonly labels: Tensor }): number {
  const values = hostValues(labels, "labels") as Int32Array;
  return values.reduce((n, label, i) => i % labels.shape[1] !== 0 && label !== IGNORE ? n + 1 : n, 0);
}

/**
 * The weight of a batch in a mean over batches.
 *
 * @param loss The loss
 * @param batch The batch
 * @returns What the loss counts; 1 when it does not count
 * @throws {InputError} When the count is not a number from 0, or the loss does not count and all labels are ignored
 */
export function countOf<P extends object, B extends object>(loss: Loss<P, B>, batch: B): number {
  if (loss.count === undefined) checkLabels(batch);
  const count = loss.count === undefined ? 1 : loss.count(batch);
  if (count >= 0 && count < Infinity) return count;
  throw new InputError(
    `Cannot weigh a batch as the "count" of its loss must be a number from 0: got ${count}`,
  );
}

/** Refuses labels that are all ignored: their loss of 0 would pass for a measured one, and freeze what it has no gradient for. */
function checkLabels(batch: object): void {
  for (const [path, tensor] of flatten(batch)) {
    if (tensor.dtype !== "i32" || !isHost(tensor)) continue;
    const values = hostValues(tensor, path) as Int32Array;
    if (values.length === 0 || !values.every((label) => label === IGNORE)) continue;
    throw new InputError(
      `Cannot weigh a batch as its loss must be the mean of some labels: those of "${path}" are all ${IGNORE}, and the loss ` +
        'does not count them; leave the batch out, or give the loss a "count", as of countLabels',
    );
  }
}
