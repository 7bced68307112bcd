/**
 * The built-in signals.
 *
 * @module
 */

import { abs } from "../../ops/functions.ts";
import { multiply, subtract } from "../../ops/arithmetic.ts";
import type { Measurable, Signal, SignalDefinition, SignalTerms } from "../../policy.ts";
import type { Tensor } from "../../tensor.ts";

const first = ([total]: readonly number[]): number => total;
const root = ([total]: readonly number[]): number => Math.sqrt(total);
const square = (x: Tensor): Tensor => multiply(x, x);

/** Sums of a parameter, which add up over the parameters of a component. */
function sums(terms: readonly Tensor[], value: SignalTerms["value"]): SignalTerms {
  return { sums: terms, joins: terms.map(() => "sum"), value, form: "" };
}

/** What a built-in signal sums up, what it needs, and the reading that it makes of it. */
interface BuiltIn {
  readonly of: (of: Measurable) => readonly Tensor[];
  readonly needs?: readonly string[];
  /** The sum when absent. */
  readonly value?: SignalTerms["value"];
  /** Whether training stops where it is not finite; true when absent. */
  readonly finite?: boolean;
}

const BUILT_IN: { readonly [name in Exclude<Signal, "activationNorm">]: BuiltIn } = {
  gradNorm: { of: ({ gradient }) => [abs(gradient)] },
  gradSquare: { of: ({ gradient }) => [square(gradient)] },
  // The previous gradient of a first step is absent, NaN.
  gradDelta: {
    of: ({ gradient, previousGradient }) => [abs(subtract(gradient, previousGradient))],
    needs: ["previousGradient"],
    finite: false,
  },
  gradDot: {
    of: ({ gradient, previousGradient }) => [
      multiply(gradient, previousGradient),
      square(gradient),
      square(previousGradient),
    ],
    needs: ["previousGradient"],
    value: ([dot, now, before]) => dot / Math.sqrt(now * before),
    finite: false,
  },
  weightDelta: { of: ({ update }) => [abs(update)] },
  weightNorm: { of: ({ weight }) => [square(weight)], value: root },
  updateNorm: { of: ({ update }) => [square(update)], value: root },
  benefit: { of: ({ gradient, update }) => [abs(multiply(gradient, update))] },
  firstMoment: { of: ({ moments }) => [square(moments.firstMoment)], needs: ["firstMoment"] },
  secondMoment: { of: ({ moments }) => [moments.secondMoment], needs: ["secondMoment"] },
};

/** What activations are made of: not of a parameter, so that a step measures them apart. */
export const ACTIVATION = "activationNorm" satisfies Signal;

/** The terms of the activations of a component, whose squares are summed up elsewhere. */
export const ACTIVATION_TERMS: Omit<SignalTerms, "sums"> = { joins: ["sum"], value: root, form: "" };

/**
 * A built-in signal as steps measure it.
 *
 * @param name Its name
 * @returns The definition
 */
export function builtIn(name: Signal): SignalDefinition {
  if (name === ACTIVATION) return { name, needs: [], terms: () => null };
  const { of, needs = [], value = first, finite = true } = BUILT_IN[name];
  return { name, needs, finite, terms: (measurable) => sums(of(measurable), value) };
}
