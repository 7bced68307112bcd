/**
 * What each component costs in a step, estimated from the graph of the loss before anything is planned.
 *
 * The products that the gradients of a node need are counted in the graph that its pullbacks build.
 *
 * @module
 */

import { pickedBy } from "../../plan/alias.ts";
import { isBroadcast, isLeaf, isPick, isPlainData, isReshape, plainText } from "../../plan/predicates.ts";
import { expandDefinitions } from "../../plan/rewrite/expand_definitions.ts";
import { simplify } from "../../plan/rewrite/simplify.ts";
import { grad } from "../../grad.ts";
import { topological } from "../../graph.ts";
import { multiply } from "../../ops/arithmetic.ts";
import { sum } from "../../ops/broadcast.ts";
import type { ComponentCost } from "../../policy.ts";
import { leaf } from "../../sources.ts";
import { sizeOf } from "../../spec.ts";
import type { Op, Pullback, Tensor } from "../../tensor.ts";
import type { Path } from "../../tree.ts";

/** What a parameter belongs to. */
export interface CostMember {
  /** Its component; null when no parameter of that component is trained. */
  readonly component: Path | null;
  /** Whether it gets a gradient. */
  readonly trained: boolean;
}

/** The longest chain of components below a node: its length, and its last component. */
interface Reach {
  readonly depth: number;
  readonly last: Path;
}

/** The place of a node among the components. */
export interface Place {
  readonly node: Tensor;
  /** The component whose cost the node belongs to; null when it reads none, and for a second use higher up. */
  readonly component: Path | null;
  /** The component whose parameter it reads, or null. */
  readonly used: Path | null;
  /** The components below it; undefined when there are none. */
  readonly below: Reach | undefined;
  /** Indices of inputs through which a gradient flows to components below. */
  readonly streams: readonly number[];
  /** Indices of inputs that are trained parameters. */
  readonly weights: readonly number[];
  /** Whether the last component below is its own, as for the second matrix of a LoRA pair. */
  readonly inside: boolean;
}

/**
 * Estimates what components cost, and their depth in the chain of gradients.
 *
 * A node without a component, such as the core of attention, counts with the component of its own depth, as both need their
 * gradients in the same steps. Between the topmost component and the loss there is no such component: every step needs
 * those gradients, so they count as the forward pass of the topmost component.
 *
 * @param loss The loss
 * @param members What each parameter leaf of the loss belongs to
 * @returns Costs by component, of those that the loss depends on
 */
export function componentCosts(
  loss: Tensor,
  members: ReadonlyMap<Tensor, CostMember>,
): Map<Path, ComponentCost> {
  const { places, depths } = placesOf(topological([loss]), members);
  const costs = new Map([...depths].map(([path, depth]) => [path, { forward: 0, dX: 0, dW: 0, depth }]));
  const atDepth = new Map([...depths].toReversed().map(([path, depth]) => [depth, path]));
  if (costs.size === 0) return costs;
  const flopsOf = productCounter();
  for (const { node, component, used, below, streams, weights, inside } of places) {
    const { forward, dX, dW } = flopsOf(node, { streams, weights }) ?? elementsOf(node, used !== null);
    if (weights.length > 0) costs.get(used!)!.dW += dW;
    const gradient = streams.length > 0 ? dX : 0;
    const owner = component ?? atDepth.get(below?.depth ?? 0);
    if (owner !== undefined) {
      const cost = costs.get(owner)!;
      cost.forward += forward;
      cost[inside ? "dW" : "dX"] += gradient;
    } else costs.get(used ?? below!.last)!.forward += forward + gradient;
  }
  return costs;
}

/** Finds the place of each node and the depth of each component. */
export function placesOf(order: readonly Tensor[], members: ReadonlyMap<Tensor, CostMember>): {
  readonly places: readonly Place[];
  readonly depths: ReadonlyMap<Path, number>;
} {
  const depths = new Map<Path, number>(), reaches = new Map<Tensor, Reach>(), places: Place[] = [];
  for (const node of order) {
    if (isView(node) && members.has(baseOf(node))) continue;
    const found = node.inputs.map((input) => members.get(baseOf(input)));
    const weights = found.flatMap((member, i) => member?.trained ? [i] : []);
    const streams = node.inputs.flatMap((input, i) => reaches.has(input) && isFunction(node, i) ? [i] : []);
    const used = found.find((member) => typeof member?.component === "string")?.component ?? null;
    const below = furthest(streams.map((i) => node.inputs[i]), reaches);
    let component: Path | null = null, inside = false;
    if (used !== null) {
      inside = below?.last === used && below.depth === depths.get(used)! + 1;
      const first = !depths.has(used);
      if (first) depths.set(used, below?.depth ?? 0);
      // A product beside it: that of the frozen weight, next to those of its LoRA pair.
      const beside = !first && (below?.depth ?? 0) === depths.get(used);
      if (first || inside || beside) component = used;
      reaches.set(node, inside ? below! : { depth: (below?.depth ?? 0) + 1, last: used });
    } else if (below !== undefined) reaches.set(node, below);
    places.push({ node, component, used, below, streams, weights, inside });
  }
  return { places, depths };
}

interface Flops {
  readonly forward: number;
  readonly dX: number;
  readonly dW: number;
}

/** Makes a function that counts the products of a node and of its gradients, once for each op and shapes; null without products. */
function productCounter(): (node: Tensor, wanted: Pick<Place, "streams" | "weights">) => Flops | null {
  const known = new Map<Op, Map<string, Flops>>();
  return (node, { streams, weights }) => {
    const { op, inputs, attrs } = node;
    if (op.matmulFlops === undefined && (op.kernel !== undefined || op.definition === undefined)) return null;
    const specs = inputs.map(({ shape, dtype }) => `${shape} ${dtype}`).join("; ");
    const key = `${specs} | ${plainText(attrs)} | ${streams} | ${weights}`;
    if (!known.has(op)) known.set(op, new Map());
    const own = known.get(op)!;
    // A function or a map among the attributes has no text.
    if (!own.has(key) || !isPlainData(attrs)) own.set(key, countProducts(node, { streams, weights }));
    return own.get(key)!.forward > 0 ? own.get(key)! : null;
  };
}

function countProducts(node: Tensor, { streams, weights }: Pick<Place, "streams" | "weights">): Flops {
  const inputs = node.inputs.map((input, i) => leaf(`input ${i}`, input));
  const output = { ...node, inputs }, gradient = leaf("gradient", node);
  const rules = node.op.pullbacks;
  const pulled = (i: number): Tensor => {
    // Without rules, the definition is differentiated.
    if (rules === undefined) return grad(sum(multiply(output, gradient)), [inputs[i]])[0];
    const rule = rules[Math.min(i, rules.length - 1)] as Pullback;
    return rule({ inputs, output, gradient, attrs: node.attrs, index: i });
  };
  const forward = flopsIn([output]);
  // A gradient repeats parts of the forward pass, which the planner merges: they are not counted twice.
  const more = (wanted: readonly number[]): number => flopsIn([output, ...wanted.map(pulled)]) - forward;
  return { forward, dX: more(streams), dW: more(weights) };
}

function flopsIn(roots: readonly Tensor[]): number {
  const ready = simplify(expandDefinitions(roots)), order = topological(ready);
  return order.reduce((sum, node) => {
    const { op, inputs, attrs } = node;
    if (op.matmulFlops === undefined) return sum;
    const outputs = op.infer(inputs, attrs), read = new Set<number>();
    if (ready.includes(node)) read.add(0);
    for (const reader of order) {
      if (!reader.inputs.includes(node)) continue;
      read.add(isPick(reader) ? pickedBy(reader) : 0);
    }
    return sum + op.matmulFlops(inputs, outputs, attrs, outputs.map((_, k) => read.has(k)));
  }, 0);
}

/** The cost of a node without products: one operation an element and pass; a lookup only adds up rows of gradients. */
function elementsOf(node: Tensor, used: boolean): Flops {
  const elements = used ? sizeOf(node.shape) : 0;
  return node.op.roles?.includes("table")
    ? { forward: 0, dX: 0, dW: elements }
    : { forward: elements, dX: elements, dW: elements };
}

function furthest(inputs: readonly Tensor[], reaches: ReadonlyMap<Tensor, Reach>): Reach | undefined {
  return inputs.map((input) => reaches.get(input)).filter((reach) => reach !== undefined)
    .reduce<Reach | undefined>(
      (far, reach) => far === undefined || reach.depth > far.depth ? reach : far,
      undefined,
    );
}

function isFunction({ op: { pullbacks, definition } }: Tensor, index: number): boolean {
  return pullbacks === undefined
    ? definition !== undefined
    : typeof pullbacks[Math.min(index, pullbacks.length - 1)] === "function";
}

/** Whether a node is a value as it is: a leaf, or a reshape or broadcast of its input. */
function isView(node: Tensor): boolean {
  return isLeaf(node) || isReshape(node) || isBroadcast(node);
}

/** The node that a view is a view of. */
function baseOf(node: Tensor): Tensor {
  return isView(node) && node.inputs.length === 1 ? baseOf(node.inputs[0]) : node;
}
