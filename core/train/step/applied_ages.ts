/**
 * Ages of parameters where the device leaves out steps: a step that updates nothing makes no parameter older.
 *
 * The host learns only at a look which steps the device left out. Until then it uploads each scalar that may depend on an age once
 * for each number of such steps, and the device, which counts them, takes the one that holds.
 *
 * @module
 */

import { topological } from "../../graph.ts";
import type { OptimizerStep } from "../../optim/optimizer.ts";
import { add } from "../../ops/arithmetic.ts";
import { sum } from "../../ops/broadcast.ts";
import { equal, where } from "../../ops/comparison.ts";
import { reshape } from "../../ops/movement.ts";
import { isStepScalar } from "../../plan/predicates.ts";
import { type AgedScalar, leaf, scalarAtOp, stepTableOp, tensor } from "../../sources.ts";
import { apply, type Tensor } from "../../tensor.ts";
import type { Leaves } from "../../tree.ts";
import { JUDGED } from "../state/specs.ts";

/** An optimizer's step whose ages count applied steps, and what the device counts. */
export interface AppliedAges {
  readonly step: OptimizerStep;
  /** Steps that the device left out, modulo the number of columns: the leaf, and its next value. */
  readonly judged: { readonly leaf: Tensor; readonly value: Tensor };
}

/**
 * Makes the ages in a step of an optimizer count the steps that were applied.
 *
 * @param step The optimizer's step, whose scalars count all steps
 * @param options Gradients, whose graphs stay as they are; whether this step is applied, f32 scalar; the most steps between
 * two looks
 * @returns The step, and the count
 */
export function withAppliedAges(
  step: OptimizerStep,
  { grads, ok, columns }: { readonly grads: Leaves; readonly ok: Tensor; readonly columns: number },
): AppliedAges {
  const before = new Set(topological([...grads.values()]));
  const outputs = [step.updates, step.state, step.readings ?? new Map()].flatMap((map) => [...map.values()]);
  const order = topological(outputs).filter((node) => !before.has(node));
  const scalars = order.filter(isStepScalar);
  const judged = leaf(JUDGED, { shape: [], dtype: "f32" });
  const next = where(equal(judged, columns - 1), 0, add(judged, 1));
  const count = { leaf: judged, value: where(ok, judged, next) };
  if (scalars.length === 0) return { step, judged: count };
  const rows = scalars.map(({ attrs }) => attrs as AgedScalar);
  const table = apply(stepTableOp, [], { rows, columns });
  const numbers = tensor(Float32Array.from({ length: columns }, (_, i) => i), [1, columns]);
  const values = sum(where(equal(numbers, reshape(judged, [1, 1])), table, 0), [1]);
  const known = new Map(
    scalars.map((node, index) => [node, apply(scalarAtOp, [values], { index })] as const),
  );
  for (const node of order) {
    if (known.has(node)) continue;
    const inputs = node.inputs.map((input) => known.get(input) ?? input);
    known.set(node, inputs.some((input, i) => input !== node.inputs[i]) ? { ...node, inputs } : node);
  }
  const rebuilt = (map: Leaves): Leaves =>
    new Map([...map].map(([path, value]) => [path, known.get(value) ?? value]));
  return {
    step: {
      ...step,
      updates: rebuilt(step.updates),
      state: rebuilt(step.state),
      ...step.readings && { readings: rebuilt(step.readings) },
    },
    judged: count,
  };
}
