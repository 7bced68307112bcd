/**
 * Reverse-mode differentiation.
 *
 * @module
 */

import { shown } from "./arguments.ts";
import { InputError } from "./errors.ts";
import { topological } from "./graph.ts";
import { fill } from "./sources.ts";
import { isTensor, type Pullback, type Tensor } from "./tensor.ts";
import { add } from "./ops/arithmetic.ts";

/**
 * Builds the gradients of a scalar with respect to some nodes.
 *
 * Only nodes on a path from a wanted node to the loss get a gradient, and only their pullbacks are called. To freeze a
 * parameter, leave it out of `wanted`: its gradient is not built, and below the lowest wanted node no gradients are.
 *
 * Source: Griewank and Walther, "Evaluating Derivatives" (2008), reverse mode.
 *
 * @param loss A scalar, shape []
 * @param wanted The nodes to differentiate by, usually leaves
 * @returns One gradient for each wanted node, of its shape; zeros when the loss does not depend on it
 * @throws {InputError} When the loss is not a scalar
 * @throws {InputError} When an op on the path has no gradient, or a wanted node is stored as bf16
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
  const packed = wanted.find(({ dtype }) => dtype === "bf16");
  if (packed !== undefined) {
    throw new InputError(
      `Cannot differentiate by "${packed.op.name}" [${packed.shape}] as bf16 cannot be trained: ` +
        'train a LoRA adapter, or load the model with storage "f32"',
    );
  }
  const order = topological([loss]);
  const active = new Set<Tensor>(wanted);
  const flows = (node: Tensor, i: number): boolean =>
    active.has(node.inputs[i]) && ruleOf(node, i) !== "flat";
  for (const node of order) if (node.inputs.some((_, i) => flows(node, i))) active.add(node);

  const gradients = new Map<Tensor, Tensor>();
  if (active.has(loss)) gradients.set(loss, fill(1));
  for (const node of order.toReversed()) {
    const gradient = gradients.get(node);
    if (gradient === undefined) continue;
    node.inputs.forEach((input, i) => {
      if (!flows(node, i)) return;
      const pullback = ruleOf(node, i) as Pullback;
      const part = pullback({ inputs: node.inputs, output: node, gradient, attrs: node.attrs, index: i });
      const sum = gradients.get(input);
      gradients.set(input, sum === undefined ? part : add(sum, part));
    });
  }
  return wanted.map((node) => gradients.get(node) ?? fill(0, node.shape));
}

function ruleOf(node: Tensor, index: number): Pullback | "flat" {
  const rules = node.op.pullbacks;
  const rule = rules === undefined ? null : rules[Math.min(index, rules.length - 1)];
  if (rule === null) {
    throw new InputError(`Cannot differentiate "${node.op.name}" as it has no gradient for input ${index}`);
  }
  return rule;
}
