/**
 * Replaces a sum of matrix products by one node, as the gradient of what query, key and value of a layer read is one.
 *
 * @module
 */

import { canGroup } from "../../../kernels/matmul/matmul.ts";
import { productKey } from "../../../kernels/matmul/types.ts";
import { topological, usesOf, withInputs } from "../../graph.ts";
import { add } from "../../ops/arithmetic.ts";
import {
  type MatmulAttrs,
  matmulSizes,
  matmulSumOp,
  MOST_SUMMED,
  type ProductAttrs,
} from "../../ops/matmul.ts";
import { reshape } from "../../ops/movement.ts";
import { apply, type Tensor } from "../../tensor.ts";
import { isAdd, isPlainAdd, isProduct, isProductSum, isReshape } from "../predicates.ts";
import { storedSpec } from "../storage.ts";
import type { IsHalf, PlanOptions } from "../types.ts";

/** A product of more operations fills a large GPU on its own: on an H100 batching gains nothing (tests/bench/RESULTS.md). */
const LARGEST = 4e9;

/** A string that is equal for products that may share a launch; null for any other node. */
export function batchKey(node: Tensor, isHalf: IsHalf = () => false): string | null {
  if (!isProduct(node) || isProductSum(node)) return null;
  const attrs = node.attrs as ProductAttrs;
  const product = { ...matmulSizes(node.inputs.map((x) => storedSpec(x, isHalf(x))), attrs), ...attrs };
  const { m, n, k } = product;
  if (!canGroup(product) || 2 * m * n * k > LARGEST) return null;
  return `${productKey(product)}${isHalf(node) ? " > f16" : ""}`;
}

/**
 * Replaces sums of products with equal sizes by one node each.
 *
 * @param roots Roots of the graph
 * @param options The device, as a CPU gains nothing, so that its graph stays; the precision, as pairs are of single products
 * @returns Equivalent roots
 */
export function sumProducts(
  roots: readonly Tensor[],
  { target, precision }: Pick<PlanOptions, "target" | "precision">,
): readonly Tensor[] {
  if (target.software || precision === "f32x3") return roots;
  const order = topological(roots);
  const counts = (node: Tensor): boolean => isProduct(node) || isReshape(node) || isAdd(node);
  const uses = usesOf(roots, { order, counts });
  const once = (node: Tensor): boolean => uses.get(node) === 1;
  /** The terms of a sum, and of inner sums that only it reads. */
  const termsOf = (node: Tensor): Tensor[] => {
    const terms: Tensor[] = [], open = node.inputs.toReversed();
    while (open.length > 0) {
      const input = open.pop()!;
      if (once(input) && isPlainAdd(input)) open.push(...input.inputs.toReversed());
      else terms.push(input);
    }
    return terms;
  };
  const adds = order.filter(isPlainAdd);
  const inner = new Set(adds.flatMap(({ inputs }) => inputs.filter((x) => once(x) && isPlainAdd(x))));
  /** The product that a term is, perhaps reshaped, if only the sum reads it. */
  const productOf = (term: Tensor): Tensor | null => {
    if (!once(term)) return null;
    if (isReshape(term)) return productOf(term.inputs[0]);
    return batchKey(term) === null ? null : term;
  };

  // Two operands each, and the result.
  const most = Math.min(MOST_SUMMED, Math.floor((target.maxBindings - 1) / 2));
  const rest = new Map<Tensor, readonly Tensor[]>(), sums = new Map<Tensor, readonly (readonly Tensor[])[]>();
  for (const node of adds) {
    if (inner.has(node)) continue;
    const terms = termsOf(node);
    if (terms.filter((term) => productOf(term) !== null).length < 2) continue;
    const alike = Map.groupBy(terms, (term) => {
      const product = productOf(term);
      return product === null ? null : `${batchKey(product)} ${product.shape}`;
    });
    const found = [...alike].flatMap(([name, group]) => name === null ? [] : divide(group, most));
    if (found.length === 0) continue;
    const taken = new Set(found.flat());
    rest.set(node, terms.filter((term) => !taken.has(term)));
    sums.set(node, found.map((group) => group.map((term) => productOf(term)!)));
  }
  if (sums.size === 0) return roots;
  const changed = new Map<Tensor, Tensor>(), now = (x: Tensor): Tensor => changed.get(x) ?? x;
  for (const node of order) {
    const groups = sums.get(node);
    if (groups === undefined) {
      const moved = withInputs(node, changed);
      if (moved !== node) changed.set(node, moved);
      continue;
    }
    const summed = groups.map((products) => {
      const operands = [0, 1].flatMap((side) => products.map(({ inputs }) => now(inputs[side])));
      return reshape(apply(matmulSumOp, operands, products[0].attrs as MatmulAttrs), node.shape);
    });
    changed.set(node, [...rest.get(node)!.map(now), ...summed].reduce((a, b) => add(a, b)));
  }
  return roots.map(now);
}

/** Groups of at most `most`, as even as possible; groups of one are dropped. */
function divide<T>(all: readonly T[], most: number): T[][] {
  const count = Math.ceil(all.length / most);
  const groups = Array.from(
    { length: count },
    (_, i) => all.slice(Math.ceil(i * all.length / count), Math.ceil((i + 1) * all.length / count)),
  );
  return groups.filter(({ length }) => length > 1);
}
