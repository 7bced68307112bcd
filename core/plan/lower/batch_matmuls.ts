/**
 * Products of the same sizes that one launch computes: a GPU that one of them does not fill, several do.
 *
 * Query, key and value of a layer are such, their gradients by weights, and the gradient by what all three read, which is
 * the sum of three products.
 *
 * @module
 */

import { maySeveral } from "../../../kernels/matmul/matmul.ts";
import { productKey } from "../../../kernels/matmul/types.ts";
import { topological } from "../../graph.ts";
import { add } from "../../ops/arithmetic.ts";
import {
  type MatmulAttrs,
  matmulOp,
  matmulSizes,
  matmulSumOp,
  MOST_SUMMED,
  type ProductAttrs,
} from "../../ops/matmul.ts";
import { reshape } from "../../ops/movement.ts";
import { apply, sameShape, type Target, type Tensor } from "../../tensor.ts";
import { baseOf } from "../fuse/codegen.ts";
import { type Fusion, isElement, readersOf } from "../fuse/fuse.ts";
import { type IsHalf, storedSpec } from "../precision.ts";

/** Products that share a launch bind three buffers each. */
const MOST = 6;
/** Operations of a product that keeps a large GPU busy on its own: by tests/bench/RESULTS.md such ones gain nothing, H100. */
const LARGEST = 4e9;

/** Name of a product that may share a launch, with how it is stored where that is known; null for any other node. */
function nameOf(node: Tensor, isHalf: IsHalf = () => false): string | null {
  if (node.op !== matmulOp) return null;
  const attrs = node.attrs as ProductAttrs;
  const product = { ...matmulSizes(node.inputs.map((x) => storedSpec(x, isHalf(x))), attrs), ...attrs };
  const { m, n, k } = product;
  if (!maySeveral(product) || 2 * m * n * k > LARGEST) return null;
  return `${productKey(product)}${isHalf(node) ? " > f16" : ""}`;
}

/**
 * Replaces sums of alike products by one node each.
 *
 * @param roots Roots of the graph
 * @param target What the device is: a CPU gains nothing
 * @returns Equivalent roots
 */
export function sumProducts(roots: readonly Tensor[], target: Target): readonly Tensor[] {
  if (target.software) return roots;
  const order = topological(roots);
  const uses = new Map<Tensor, number>();
  const use = (node: Tensor): void => void uses.set(node, (uses.get(node) ?? 0) + 1);
  roots.forEach(use);
  for (const node of order) node.inputs.forEach(use);
  const once = (node: Tensor): boolean => uses.get(node) === 1;
  const isSum = (node: Tensor): boolean =>
    node.op.name === "add" && node.inputs.every(({ shape }) => sameShape(shape, node.shape));
  /** The terms of a sum, through sums that only it reads. */
  const termsOf = (node: Tensor): Tensor[] =>
    node.inputs.flatMap((input) => isSum(input) && once(input) ? termsOf(input) : [input]);
  const inner = new Set(
    order.filter(isSum).flatMap(({ inputs }) => inputs.filter((x) => isSum(x) && once(x))),
  );
  /** The product that a term is, reshaped or not, if only the sum reads it. */
  const productOf = (term: Tensor): Tensor | null => {
    if (!once(term)) return null;
    if (term.op.name === "reshape") return productOf(term.inputs[0]);
    return nameOf(term) === null ? null : term;
  };

  // Two operands each, and the result.
  const most = Math.min(MOST_SUMMED, Math.floor((target.maxBindings - 1) / 2));
  const rest = new Map<Tensor, readonly Tensor[]>(), sums = new Map<Tensor, readonly (readonly Tensor[])[]>();
  for (const node of order) {
    if (!isSum(node) || inner.has(node)) continue;
    const terms = termsOf(node);
    const alike = Map.groupBy(terms, (term) => {
      const product = productOf(term);
      return product === null ? null : `${nameOf(product)} ${product.shape}`;
    });
    const found = [...alike].flatMap(([name, group]) => name === null ? [] : divide(group, most));
    if (found.length === 0) continue;
    const taken = new Set(found.flat());
    rest.set(node, terms.filter((term) => !taken.has(term)));
    sums.set(node, found.map((group) => group.map((term) => productOf(term)!)));
  }
  if (sums.size === 0) return roots;
  const done = new Map<Tensor, Tensor>();
  for (const node of order) {
    const now = (x: Tensor): Tensor => done.get(x)!;
    const groups = sums.get(node);
    if (groups === undefined) {
      const inputs = node.inputs.map(now);
      done.set(node, inputs.some((x, i) => x !== node.inputs[i]) ? { ...node, inputs } : node);
      continue;
    }
    const summed = groups.map((products) => {
      const operands = [0, 1].flatMap((side) => products.map(({ inputs }) => now(inputs[side])));
      return reshape(apply(matmulSumOp, operands, products[0].attrs as MatmulAttrs), node.shape);
    });
    done.set(node, [...rest.get(node)!.map(now), ...summed].reduce((a, b) => add(a, b)));
  }
  return roots.map((root) => done.get(root)!);
}

/** Groups of two to `most`, as even as may be; none of fewer than two. */
function divide<T>(all: readonly T[], most: number): T[][] {
  const count = Math.ceil(all.length / most);
  const groups = Array.from(
    { length: count },
    (_, i) => all.slice(Math.ceil(i * all.length / count), Math.ceil((i + 1) * all.length / count)),
  );
  return groups.filter(({ length }) => length > 1);
}

/**
 * Finds products that share an operand and do not need each other, each of which would be a launch of its own.
 *
 * @param fusion The graph
 * @param options `targets`: nodes that overwrite a leaf; what the device is; how values are stored
 * @returns Groups of two products or more, by their first one
 */
export function siblings(
  fusion: Fusion,
  { targets, target, isHalf }: {
    readonly targets: ReadonlyMap<Tensor, Tensor>;
    readonly target: Target;
    readonly isHalf: IsHalf;
  },
): ReadonlyMap<Tensor, readonly Tensor[]> {
  const groups = new Map<Tensor, readonly Tensor[]>();
  if (target.software) return groups;
  const { order, level, clusterOf, readers } = fusion;
  /** Whether nothing waits for a kernel: it may run as late as one likes. */
  const isLast = (reader: Tensor): boolean => {
    const cluster = clusterOf.get(reader);
    return cluster !== undefined && cluster.summed.length === 0 &&
      cluster.nodes.every((node) => readers.get(node)!.every((after) => clusterOf.get(after) === cluster));
  };
  const overwriter = new Map([...targets].map(([node, leaf]) => [leaf, node]));
  /** The level at which others overwrite what a node reads. */
  const overwritten = (node: Tensor): number =>
    Math.min(...node.inputs.map((input) => {
      const by = overwriter.get(baseOf(input));
      return by === undefined || clusterOf.get(by) === clusterOf.get(node) ? Infinity : level.get(by)!;
    }));
  /** Whether a kernel that reads a product may become the end of its own. */
  const mayBeEnd = (reader: Tensor): boolean => {
    if (!isElement(reader)) return false;
    const { summed, stored } = clusterOf.get(reader)!;
    return summed.length === 0 && !stored.some((node) => targets.has(node));
  };
  const stored = (node: Tensor): string | null => nameOf(node, isHalf);
  /** The last level at which a product can be computed. */
  const latest = new Map<Tensor, number>();
  const candidates = order.filter((node) => {
    if (stored(node) === null || targets.has(node)) return false;
    const after = readersOf(node, readers);
    if (after.some(mayBeEnd)) return false;
    const ends = after.map((reader) =>
      isLast(reader) ? Math.min(...clusterOf.get(reader)!.nodes.map(overwritten)) : level.get(reader)! - 1
    );
    latest.set(node, Math.min(overwritten(node), ...ends));
    return true;
  });
  const taken = new Set<Tensor>();
  const most = Math.min(MOST, Math.floor(target.maxBindings / 3));
  // What is computed together is computed at the level of the last one. Readers lie above it as they are, and can only
  // move up themselves, and what overwrites an operand lies no lower, so no launch comes to wait for itself.
  for (const side of [0, 1]) {
    const bySource = Map.groupBy(candidates, (node) => baseOf(node.inputs[side]));
    for (const readersOfOne of bySource.values()) {
      for (const alike of Map.groupBy(readersOfOne.filter((n) => !taken.has(n)), stored).values()) {
        let group: Tensor[] = [];
        for (const node of alike) {
          const wider = [...group, node];
          const together = Math.max(...wider.map((n) => level.get(n)!)) <=
            Math.min(...wider.map((n) => latest.get(n)!));
          if (together && wider.length <= most) group = wider;
        }
        if (group.length < 2) continue;
        groups.set(group[0], group);
        for (const node of group) taken.add(node);
      }
    }
  }
  return groups;
}
