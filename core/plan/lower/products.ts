/**
 * Matrix products of a graph as requests to the kernels.
 *
 * @module
 */

import { type Matmul, type MatmulVariant, productKey } from "../../../kernels/matmul/types.ts";
import { chooseMatmul } from "../../../kernels/matmul/variants.ts";
import { matmulSizes, type ProductAttrs } from "../../ops/matmul.ts";
import type { Target } from "../../kernel_call.ts";
import type { Tensor } from "../../tensor.ts";
import { baseOf } from "../alias.ts";
import { isProduct, isProductSum } from "../predicates.ts";
import { storedSpec } from "../storage.ts";
import type { Prepared } from "../types.ts";

/** A product, without the decision how it is computed. */
export type Product = Omit<Matmul, "variant" | "epilogue">;

/** A product, and its operands in the order of its bindings. */
export interface ProductNode {
  readonly product: Product;
  readonly operands: readonly Tensor[];
}

/** How the values of a graph are stored. */
type StoredValues = Pick<Prepared, "isHalf" | "isLarge" | "paired">;

/** The operands of a product on one side: several of a sum of products. */
function sideOf(node: Tensor, side: number): readonly Tensor[] {
  const count = isProductSum(node) ? node.inputs.length / 2 : 1;
  return node.inputs.slice(side * count, side * count + count);
}

/**
 * Describes the product that one launch computes.
 *
 * @param nodes A product, a sum of products, or products that share a launch
 * @param stored How values are stored
 * @returns Sizes, layout and operands
 */
export function productOf(nodes: readonly Tensor[], { isHalf, isLarge, paired }: StoredValues): ProductNode {
  const [{ inputs, attrs }] = nodes, summed = isProductSum(nodes[0]), count = inputs.length / 2;
  const first = summed ? [inputs[0], inputs[count]] : inputs;
  const stored = first.map((x) => storedSpec(x, isHalf(x)));
  const [largeA, largeB] = [0, 1].map((side) => nodes.some((node) => sideOf(node, side).some(isLarge)));
  const product = {
    ...matmulSizes(stored, attrs as ProductAttrs),
    ...attrs as ProductAttrs,
    ...(largeA && { largeA }),
    ...(largeB && { largeB }),
    ...(paired && { paired }),
  };
  if (summed) {
    return { product: { ...product, group: { count, as: "summed" } }, operands: inputs };
  }
  if (nodes.length === 1) return { product, operands: inputs };
  const sides = [0, 1].map((side) => nodes.map((node) => node.inputs[side]));
  // One shared operand is bound once, even where both operands are the same in all products.
  const common = sides.findIndex((side) => side.every((x) => baseOf(x) === baseOf(side[0])));
  const shared = common === 0 ? "a" : "b";
  return {
    product: { ...product, group: { count: nodes.length, as: "separate", shared } },
    operands: sides.flatMap((side, i) => i === common ? [side[0]] : side),
  };
}

/**
 * The part of a product that decides how it is computed. Gradients of weights that read the same input share a launch, and
 * freezing removes some of them: each is computed as it would be alone, so that its bits do not depend on the others.
 */
function decisive(product: Product): Product {
  const { group, ...one } = product;
  return group?.as === "separate" && group.shared === "b" ? one : product;
}

/** How a product is computed: the variant that was measured to be fastest, or else the one that a rule chooses. */
export function variantOf(product: Product, target: Target): MatmulVariant {
  const asked = decisive(product);
  return target.variants?.get(productKey(asked)) ?? chooseMatmul(asked, target);
}

/**
 * Lists the matrix products of a graph, each size and layout once.
 *
 * @param prepared The graph
 * @returns The products by key
 */
export function productsOf(
  { fusion, batched, ...stored }: Pick<Prepared, "fusion" | "batched"> & StoredValues,
): Map<string, Product> {
  const products = new Map<string, Product>();
  const others = new Set([...batched.values()].flatMap(([, ...rest]) => rest));
  for (const node of fusion.order) {
    if (!isProduct(node) || others.has(node)) continue;
    // How many rows count is known only when the step runs; here all of them do.
    const { limit: _, ...product } = decisive(productOf(batched.get(node) ?? [node], stored).product);
    products.set(productKey(product), product);
  }
  return products;
}
