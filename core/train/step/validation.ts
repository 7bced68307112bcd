/**
 * Computes the loss on validation batches during training.
 *
 * @module
 */

import { InputError, NonFiniteError } from "../../errors.ts";
import type { Gpu } from "../../runtime/device.ts";
import type { Tensor } from "../../tensor.ts";
import { checkAlike, type Evaluation, recordEvaluation } from "../../infer/evaluate.ts";
import type { TensorTree } from "../../tree.ts";
import type { TrainingOptions, Validation } from "../types.ts";

/** Computes validation losses. Its recording is kept from one to the next. */
export interface Validator<P extends TensorTree> {
  /** Whether a validation is due at the look of a step. */
  due(step: number, last: Validation | null): boolean;
  /**
   * Computes the mean loss of the batches.
   *
   * @throws {NonFiniteError} When it is not finite
   */
  validate(now: { readonly step: number; readonly params: P; readonly owner: object }): Promise<Validation>;
  /** Frees the recording. */
  forget(): void;
}

/**
 * Makes a validator.
 *
 * @param gpu The device
 * @param loss The loss of the training
 * @param options Batches, steps between validations, and the number of steps
 * @returns The validator; null without batches
 * @throws {InputError} When there are no batches, `every` is not a whole number above 0, or batches differ in shape
 * @throws {InputError} When batches differ in names or types
 */
export function validatorOf<P extends TensorTree, B extends TensorTree>(
  gpu: Gpu,
  loss: (params: P, batch: B) => Tensor,
  { validation, steps }: Pick<TrainingOptions<B>, "validation" | "steps">,
): Validator<P> | null {
  if (validation === undefined) return null;
  const { batches, every } = validation;
  if (batches.length === 0) {
    throw new InputError('Cannot validate as "batches" is empty: give at least one, or no "validation"');
  }
  if (!(Number.isInteger(every) && every >= 1)) {
    throw new InputError(`Cannot validate every ${every} steps as "every" must be a whole number above 0`);
  }
  checkAlike(batches);
  let known: { readonly owner: object; readonly evaluation: Evaluation } | null = null;
  const forget = (): void => {
    known?.evaluation.destroy();
    known = null;
  };
  return {
    due: (step, last) => step === steps || step - (last?.step ?? 0) >= every,
    async validate({ step, params, owner }) {
      if (known?.owner !== owner) {
        forget();
        const evaluation = await recordEvaluation(gpu, { loss, params, batches });
        // Another state may have been validated meanwhile.
        forget();
        known = { owner, evaluation };
      }
      const losses = await known!.evaluation.losses();
      const mean = losses.reduce((sum, x) => sum + x, 0) / losses.length;
      if (!Number.isFinite(mean)) throw new NonFiniteError("validation loss", step, mean);
      return { step, loss: mean };
    },
    forget,
  };
}
