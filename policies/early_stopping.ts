import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { definePolicy } from "./define_policy.ts";

/** Options of {@link earlyStopping}. */
export interface EarlyStoppingOptions {
  /** Consecutive validations without an improvement that end training, a whole number above 0; 3 when absent. */
  readonly patience?: number;
  /** Decrease of the validation loss that counts as an improvement, 0 or more; 5e-4 when absent. */
  readonly minDelta?: number;
  /** Whether training ends with the parameters of the lowest validation loss, or with the last; true when absent. */
  readonly restoreBest?: boolean;
}

/**
 * Early stopping: ends training when the validation loss no longer improves. It freezes nothing.
 *
 * An improvement is a loss more than `minDelta` below that of the last improvement. The best step is the one of the
 * lowest loss, however little lower. Steps without a validation do not count. Combine it with other policies by {@link
 * anyOf}. Cost: none beyond the validations.
 *
 * Source: Prechelt, "Early Stopping - But When?", 1998. The defaults are those of the baseline in the GradES
 * paper (arXiv 2509.01842), which validates after every 5 % of the steps.
 *
 * @param options Patience, and what counts as an improvement
 * @returns The policy; its `next` throws an InputError when training has no validation data
 * @throws {InputError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { earlyStopping } from "@firn/train/policies";
 *
 * const policy = earlyStopping({ patience: 2 });
 * const steps = [1, 2, 3, 4, 5, 6];
 * const validation = [3, NaN, 2, NaN, 2.1, 2.2];
 * const start = policy.init([], { steps: 10 });
 * const state = policy.next(start, { steps, loss: steps, learningRate: steps, readings: {}, validation });
 * assertEquals(policy.stopped?.(state, []), true);
 * assertEquals(policy.best?.(state), 3);
 * ```
 */
export function earlyStopping(options: EarlyStoppingOptions = {}): FreezePolicy {
  const { patience = 3, minDelta = 5e-4, restoreBest = true } = options;
  if (!(Number.isInteger(patience) && patience >= 1)) {
    throw new InputError(`Cannot stop early as "patience" must be a whole number above 0: got ${patience}`);
  }
  if (!(minDelta >= 0 && minDelta < Infinity)) {
    throw new InputError(`Cannot stop early as "minDelta" must be a number, 0 or more: got ${minDelta}`);
  }
  const fate = restoreBest ? "restore best" : "keep last";
  return definePolicy<State>({
    name: `earlyStopping(patience ${patience}, minDelta ${minDelta}, ${fate})`,
    init: () => ({ reference: null, lowest: null, failures: 0 }),
    next(state, { step, validation }) {
      if (validation === undefined) {
        throw new InputError(
          `Cannot stop early in step ${step} as training has no validation data: give it batches as "validation"`,
        );
      }
      const { reference, lowest, failures } = state;
      if (!Number.isFinite(validation) || failures >= patience) return state;
      const improved = reference === null || validation < reference - minDelta;
      return {
        reference: improved ? validation : reference,
        lowest: lowest === null || validation < lowest.loss ? { step, loss: validation } : lowest,
        failures: improved ? 0 : failures + 1,
      };
    },
    frozen: () => [],
    stopped: ({ failures }) => failures >= patience,
    ...(restoreBest && { best: ({ lowest }) => lowest === null ? null : lowest.step }),
  });
}

type State = {
  /** Validation loss of the last improvement. */
  readonly reference: number | null;
  readonly lowest: { readonly step: number; readonly loss: number } | null;
  /** Validations since the last improvement. */
  readonly failures: number;
};
