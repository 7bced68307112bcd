/**
 * Launches for products by pairs of f16: they find the largest magnitudes of operands first.
 *
 * @module
 */

import type { MatrixProducts } from "../../../kernels/matmul/matrix_products.ts";
import { isPaired } from "../../../kernels/matmul/types.ts";
import { accumulated, type ProductAttrs } from "../../ops/matmul.ts";
import { matmulSizes } from "../../ops/matmul.ts";
import type { KernelText } from "../../kernel_call.ts";
import type { Tensor } from "../../tensor.ts";
import { baseOf } from "../alias.ts";
import { storedSpec } from "../storage.ts";
import { addUnit, type LowerContext } from "./context.ts";
import type { Product } from "./products.ts";

/**
 * Adds the launches that find the largest magnitudes of both operands of a product; products that read an operand in one way
 * share them.
 *
 * @param context What is lowered
 * @param options The product, its operands, and the node that it belongs to
 * @returns Their buffers
 */
export function magnitudesFor(
  context: LowerContext,
  { node, product, operands = node.inputs }: {
    readonly node: Tensor;
    readonly product: Product;
    readonly operands?: readonly Tensor[];
  },
): readonly number[] {
  const { table, places, texts, magnitudes: found, target } = context, units = target.units!;
  const { limit: _, ...whole } = product;
  return (["a", "b"] as const).map((name, side) => {
    const operand = operands[side], { parts, rows } = units.magnitudesOf(whole, name);
    const kernel = texts.remembered(largest)({ product: whole, name, units }),
      known = found.get(baseOf(operand)) ?? new Map();
    found.set(baseOf(operand), known);
    if (!known.has(kernel.name)) {
      const buffer = table.add(parts * rows);
      known.set(kernel.name, buffer);
      addUnit(context, {
        kernel,
        reads: [table.bufferOf(operand)],
        writes: [buffer],
        // Products that could free much memory wait for it.
        early: true,
        priority: places.get(node)!,
      });
    }
    return known.get(kernel.name)!;
  });
}

function largest(
  { product, name, units }: {
    readonly product: Omit<Product, "limit">;
    readonly name: "a" | "b";
    readonly units: MatrixProducts;
  },
): KernelText {
  return units.magnitudes(product, name);
}

/** Adds the launch that adds a product to a sum so far. */
export function addAccumulated(context: LowerContext, node: Tensor): void {
  const { table, places, target, targets } = context, { inputs: [total, ...operands], attrs } = node;
  const sizes = matmulSizes(operands.slice(0, 2).map((x) => storedSpec(x, false)), attrs as ProductAttrs);
  const product = { ...sizes, ...attrs as ProductAttrs, paired: true };
  const { kernel, alias, variant } = accumulated(product, target);
  const given = operands.map((x) => table.bufferOf(x)), sum = table.bufferOf(total), leaf = targets.get(node);
  const reads = isPaired({ paired: true, variant })
    ? [...given, ...magnitudesFor(context, { node, product, operands })]
    : given;
  addUnit(context, {
    kernel,
    reads: [...reads, sum],
    writes: [table.bufferOf(node)],
    priority: places.get(node)!,
    overwrites: leaf === undefined ? [] : [table.bufferOf(leaf)],
    matmulFlops: kernel.flops,
    operands: given,
    inPlace: alias && { ...alias, input: sum },
  });
}
