/**
 * Computes the loss on validation batches during training: the mean over all their labels.
 *
 * @module
 */

import { InputError, NonFiniteError } from "../../errors.ts";
import type { Gpu } from "../../runtime/device.ts";
import { checkAlike, countsOf, type Evaluation, recordEvaluation } from "../../infer/evaluate.ts";
import { firstNonFinite } from "../../infer/non_finite.ts";
import type { Loss } from "../../models/loss.ts";
import { flatten, type TensorTree } from "../../tree.ts";
import type { TrainingOptions, Validation } from "../types.ts";

/** Computes validation losses. Its recording is kept from one to the next. */
export interface Validator<P extends TensorTree> {
  /** Whether a validation is due at the look of a step. */
  due(step: number, last: Validation | null): boolean;
  /**
   * Computes the mean loss over the labels of all batches.
   *
   * @throws {NonFiniteError} When it is not finite; it names the first parameter that is not
   */
  validate(now: { readonly step: number; readonly params: P; readonly owner: object }): Promise<Validation>;
  /** Frees the recording. */
  forget(): void;
}

/**
 * Makes a validator.
 *
 * @param gpu The device
 * @param trained The loss of the training
 * @param options Batches, their loss, steps between validations, and the number of steps
 * @returns The validator; null without batches
 * @throws {InputError} When there are no batches, or none with a label, `every` is not a whole number above 0, or batches differ in shape
 * @throws {InputError} When batches differ in names or types
 */
export function validatorOf<P extends TensorTree, B extends TensorTree>(
  gpu: Gpu,
  trained: Loss<P, B>,
  { validation, steps }: Pick<TrainingOptions<B>, "validation" | "steps">,
): Validator<P> | null {
  if (validation === undefined) return null;
  const { batches, every } = validation, loss: Loss<P, B> = validation.loss ?? trained;
  if (batches.length === 0) {
    throw new InputError('Cannot validate as "batches" is empty: give at least one, or no "validation"');
  }
  if (!(Number.isInteger(every) && every >= 1)) {
    throw new InputError(`Cannot validate every ${every} steps as "every" must be a whole number above 0`);
  }
  checkAlike(batches);
  countsOf(loss, batches);
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
      const { loss: mean } = await known!.evaluation.run();
      if (Number.isFinite(mean)) return { step, loss: mean };
      const bad = await firstNonFinite(gpu, flatten(params));
      const mend = bad === null
        ? "all parameters are finite; look at the validation batches"
        : `so is the parameter "${bad.path}"; go back to a checkpoint and lower the learning rate, or clip gradients`;
      throw new NonFiniteError("validation loss", step, mean, { mend });
    },
    forget,
  };
}
