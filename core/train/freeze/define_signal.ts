/**
 * Signals of one's own. `@firn/train/policies` exports this; training itself knows no more than what it makes.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import { type Measurable, type SignalDefinition, SIGNALS, type SignalTerms } from "../../policy.ts";
import type { Tensor } from "../../tensor.ts";
import { termsOf } from "./signal_terms.ts";

/** What a signal is made of: values of one parameter in one step, f32 of its shape. */
export type Measured = Omit<Measurable, "moments"> & {
  /**
   * Moments after the step, by what `needs` names.
   *
   * @throws {InputError} When `needs` does not name it
   */
  readonly moments: { readonly [need: string]: Tensor };
};

/** A signal of one's own. */
export interface OwnSignal {
  /** Its name in `read`, in looks and in logs: no built-in signal has it. */
  readonly name: string;
  /**
   * What it needs besides weight, gradient and update; nothing when absent. `previousGradient` costs 4 bytes an element. Others are
   * moments of the optimizer: by meaning, `firstMoment`, `secondMoment` (training keeps these two where the optimizer does not) or
   * `momentum`, or by name, as `z` of an optimizer that keeps `z.<parameter>`.
   */
  readonly needs?: readonly string[];
  /** Builds the number from tensors, as a scalar of pure ops; null where a parameter does not count. */
  readonly measure: (of: Measured) => Tensor | null;
}

/**
 * Defines a signal: a number for each component and step that policies read, made of pure ops.
 *
 * Sums over a parameter (`sum`, `mean`) are fused into the kernel that updates it, as those of built-in signals are. What is made
 * of these sums, such as a quotient or a root, is computed on the host in float64 when a look reads them. So a signal costs no
 * launch. A maximum, or a product of matrices, costs launches of its own.
 *
 * A component of several parameters, such as a weight and its bias or a LoRA pair, counts as one vector: sums and maxima go over all
 * of them.
 *
 * A reading is of the step as training takes it: of the gradient that is summed over accumulated batches and ranks, before
 * clipping. What is frozen has none. Probes read signals that are made of gradient and weight alone. A reading that is not finite
 * stops nothing: policies see it as it is.
 *
 * @param signal Its name, what it needs, and how it is made
 * @returns The signal, for `signals` of a policy, and for `below`, `hysteresis` and `gradES`. Define it once, outside of functions:
 * two signals of one policy may not share a name
 * @throws {InputError} When the name is empty or that of a built-in signal, or `measure` is no function. Training throws it, too:
 * when the optimizer keeps no such moment, or `measure` gives no scalar
 *
 * @example How far a step moves a weight, relative to its length
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { defineTraining, divide, mean, multiply, openGpu, sgd, sqrt, sum, type Tensor, tensor } from "@firn/train";
 * import { below, defineSignal } from "@firn/train/policies";
 *
 * const relativeUpdate = defineSignal({
 *   name: "relativeUpdate",
 *   measure: ({ weight, update }) => sqrt(divide(sum(multiply(update, update)), sum(multiply(weight, weight)))),
 * });
 *
 * await using gpu = await openGpu();
 * const training = defineTraining(gpu, ({ w }: { w: Tensor }) => mean(multiply(w, w)), {
 *   optimizer: sgd({ learningRate: 0.1 }),
 *   policy: below(relativeUpdate, 1e-3),
 *   steps: 1,
 * });
 * const { look } = await training.next(await training.init({ w: tensor([3, 4]) }), {});
 * assertAlmostEquals(look!.readings.relativeUpdate.w[0], 0.1, 1e-6);
 * ```
 */
export function defineSignal({ name, needs = [], measure }: OwnSignal): SignalDefinition {
  if (typeof name !== "string" || name === "") {
    throw new InputError(`Cannot define a signal as "name" must be text that is not empty: got ${name}`);
  }
  if ((SIGNALS as readonly string[]).includes(name)) {
    throw new InputError(
      `Cannot define the signal "${name}" as a built-in signal has that name; choose another`,
    );
  }
  if (typeof measure !== "function") {
    throw new InputError(
      `Cannot define the signal "${name}" as "measure" must be a function: got ${typeof measure}`,
    );
  }
  return {
    name,
    needs: [...new Set(needs)],
    terms(of): SignalTerms | null {
      return termsOf(name, { of, made: measure({ ...of, moments: declared(name, of.moments) }) });
    },
  };
}

/** Moments that refuse to be read unless they were asked for. */
function declared(name: string, moments: Measurable["moments"]): Measurable["moments"] {
  return new Proxy(moments, {
    get(known, key) {
      if (typeof key === "symbol" || Object.hasOwn(known, key)) return known[key as string];
      throw new InputError(
        `Cannot measure "${name}" as it must name the moments that it reads: "needs" is [${
          Object.keys(known).join(", ")
        }]; add "${key}"`,
      );
    },
  });
}
