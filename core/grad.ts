/**
 * Reverse-mode differentiation.
 *
 * @module
 */

import { shown } from "./arguments.ts";
import { InputError } from "./errors.ts";
import { rebuild, topological } from "./graph.ts";
import { fill, leaf } from "./sources.ts";
import { isPacked } from "./spec.ts";
import { isTensor, type Output, outputOf, type Pullback, type Tensor } from "./tensor.ts";
import { add } from "./ops/arithmetic.ts";

/**
 * Builds the gradients of a scalar with respect to some nodes.
 *
 * Only nodes on a path from a wanted node to the loss get a gradient, and only their pullbacks are called. To freeze a
 * parameter, leave it out of `wanted`: its gradient is not built, and below the lowest wanted node no gradients are.
 *
 * A gradient can be differentiated again. An op without pullbacks, and an output that {@link pick} takes, are
 * differentiated through the definition of the op.
 *
 * Source: Griewank and Walther, "Evaluating Derivatives" (2008), reverse mode.
 *
 * @param loss A scalar, shape []
 * @param wanted The nodes to differentiate by, usually leaves
 * @returns One gradient for each wanted node, of its shape; zeros when the loss does not depend on it
 * @throws {InputError} When the loss is not a scalar
 * @throws {InputError} When an op on the path has no gradient, or a wanted node is stored in fewer bytes than f32
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { grad, multiply, openGpu, read, sum, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const x = tensor([1, 2, 3]);
 * const [dx] = grad(sum(multiply(x, x)), [x]);
 * assertEquals([...await read(gpu, dx)], [2, 4, 6]);
 * ```
 */
export function grad(loss: Tensor, wanted: readonly Tensor[]): Tensor[] {
  if (!isTensor(loss)) {
    throw new InputError(`Cannot differentiate as the loss must be a tensor: got ${shown(loss)}`);
  }
  if (!Array.isArray(wanted) || !wanted.every(isTensor)) {
    throw new InputError(
      `Cannot differentiate "${loss.op.name}" as "wanted" must be a list of tensors: got ${shown(wanted)}`,
    );
  }
  if (loss.shape.length !== 0) {
    throw new InputError(`Cannot differentiate "${loss.op.name}" as a loss is a scalar: got [${loss.shape}]`);
  }
  const packed = wanted.find(({ dtype }) => isPacked(dtype));
  if (packed !== undefined) {
    throw new InputError(
      `Cannot differentiate by "${packed.op.name}" [${packed.shape}] as ${packed.dtype} cannot be trained: ` +
        'train a LoRA adapter, or load the model with storage "f32"',
    );
  }
  return pullBack(loss, { gradient: fill(1), wanted });
}

/** Gradients of some nodes by the gradient of a root. */
function pullBack(
  root: Tensor,
  { gradient, wanted }: { readonly gradient: Tensor; readonly wanted: readonly Tensor[] },
): Tensor[] {
  const order = topological([root]);
  const active = new Set<Tensor>(wanted);
  const flows = (output: Output, i: number): boolean =>
    active.has(output.node.inputs[i]) && ruleOf(output, i) !== "flat";
  for (const node of order) {
    const output = outputOf(node);
    // Further outputs that are integers are orders and counts.
    if (output.index > 0 && node.dtype !== "f32") continue;
    if (output.node.inputs.some((_, i) => flows(output, i))) active.add(node);
  }
  const gradients = new Map<Tensor, Tensor>();
  if (active.has(root)) gradients.set(root, gradient);
  for (const node of order.toReversed()) {
    const gradient = gradients.get(node);
    if (gradient === undefined) continue;
    const output = outputOf(node), { inputs, attrs } = output.node;
    inputs.forEach((input, i) => {
      if (!flows(output, i)) return;
      const rule = ruleOf(output, i) as Pullback;
      const part = rule({ inputs, output: output.node, gradient, attrs, index: i });
      const sum = gradients.get(input);
      gradients.set(input, sum === undefined ? part : add(sum, part));
    });
  }
  return wanted.map((node) => gradients.get(node) ?? fill(0, node.shape));
}

/** How a gradient flows from an output of a node to one of its inputs. */
function ruleOf({ node: { op }, index }: Output, input: number): Pullback | "flat" {
  const rule = op.pullbacks?.[Math.min(input, op.pullbacks.length - 1)];
  if (rule === "flat" || (typeof rule === "function" && index === 0)) return rule;
  if (rule === null || (op.definition === undefined && index === 0)) {
    throw new InputError(`Cannot differentiate "${op.name}" as it has no gradient for input ${input}`);
  }
  if (op.definition === undefined) {
    throw new InputError(`Cannot differentiate output ${index} of "${op.name}" as the op has no definition`);
  }
  return throughDefinition(index);
}

/** The pullback that the definition of an op implies. Leaves stand for the inputs, as one may depend on another. */
function throughDefinition(index: number): Pullback {
  return ({ inputs, output: { op }, gradient, attrs, index: input }) => {
    const places = inputs.map((x, i) => leaf(`input ${i}`, x)), own = leaf("gradient", gradient);
    const [part] = pullBack(op.definition!(places, attrs)[index], { gradient: own, wanted: [places[input]] });
    const given = new Map([[own, gradient], ...places.map((place, i) => [place, inputs[i]] as const)]);
    return rebuild([part], (node) => given.get(node) ?? node)[0];
  };
}
