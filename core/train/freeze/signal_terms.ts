/**
 * Splits a signal into sums and what the host makes of them.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import type { ReduceAttrs } from "../../ops/broadcast.ts";
import { constant, isBroadcast, isReduction, isReshape, isSumEach } from "../../plan/predicates.ts";
import type { Measurable, SignalTerms } from "../../policy.ts";
import { hostValues, isHost } from "../../sources.ts";
import { sizeOf } from "../../spec.ts";
import { isTensor, type Tensor } from "../../tensor.ts";

/** Numbers of a component, and the elements of its parameters. */
interface Numbers {
  readonly numbers: readonly number[];
  readonly size: number;
}

/** A number that the host computes, and how it is made, as text. */
interface HostNumber {
  readonly form: string;
  readonly value: (from: Numbers) => number;
}

/**
 * Splits what a signal makes of a parameter into sums, which a step computes, and the number that the host makes of them.
 *
 * @param name The signal
 * @param options The values of the parameter, and what it makes of them
 * @returns The terms; null when it makes nothing
 * @throws {InputError} When it is no scalar, or does not depend on the parameter
 */
export function termsOf(
  name: string,
  { of, made }: { readonly of: Measurable; readonly made: unknown },
): SignalTerms | null {
  if (made === null) return null;
  const refuse = (seen: string): never => {
    throw new InputError(
      `Cannot measure "${name}" of "${of.path}" as "measure" must give a scalar of what it gets, or null for nothing: it gave ${seen}`,
    );
  };
  if (!isTensor(made)) return refuse(made === undefined ? "undefined" : `a ${typeof made}`);
  if (made.shape.length > 0) refuse(`a tensor [${made.shape.join(", ")}]; use sum or mean`);
  const { weight, gradient, update, previousGradient, moments } = of;
  // What the step computes is not looked into: only what the signal makes of it.
  const given = new Set([weight, gradient, update, previousGradient, ...Object.values(moments)]);
  const sums: Tensor[] = [],
    joins: SignalTerms["joins"][number][] = [],
    known = new Map<Tensor, HostNumber>();
  const term = (tensor: Tensor, join: "sum" | "max" | null): HostNumber => {
    const at = sums.push(tensor) - 1;
    joins.push(join);
    return { form: `${join ?? tensor.op.name}#${at}`, value: ({ numbers }) => numbers[at] };
  };
  const numberOf = (node: Tensor): HostNumber => {
    let number = known.get(node);
    if (number === undefined) known.set(node, number = given.has(node) ? term(node, null) : ofOps(node));
    return number;
  };
  const ofOps = (node: Tensor): HostNumber => {
    const { op, inputs } = node, fixed = constant(node);
    if (isSumEach(node) && inputs.length === 1 && sizeOf(node.shape) === 1) return term(inputs[0], "sum");
    if (isReduction(node) && (node.attrs as ReduceAttrs).kind === "max") return term(node, "max");
    if (fixed !== undefined) return hostConstant(fixed, sizeOf(weight.shape));
    if (isHost(node)) return hostConstant(hostValues(node, name)[0]);
    if (inputs.length === 0 || inputs.some(({ shape }) => sizeOf(shape) !== 1)) return term(node, null);
    if (isReshape(node) || isBroadcast(node)) return numberOf(inputs[0]);
    if (op.element === undefined) {
      return op.definition === undefined ? term(node, null) : numberOf(op.definition(inputs, node.attrs)[0]);
    }
    const { value } = op.element, parts = inputs.map(numberOf);
    return {
      form: `${op.name}(${parts.map(({ form }) => form).join()})`,
      value: (from) => value(...parts.map((part) => part.value(from))),
    };
  };
  const { form, value } = numberOf(made);
  if (sums.length === 0) refuse("a constant");
  return { sums, joins, form, value: (numbers, size) => value({ numbers, size }) };
}

/** A constant; the number of elements of a parameter stands for that of its component, as in a mean. */
function hostConstant(value: number, size?: number): HostNumber {
  return value === size
    ? { form: "size", value: (from) => from.size }
    : { form: `${value}`, value: () => value };
}
