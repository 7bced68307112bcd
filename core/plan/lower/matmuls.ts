/**
 * Launches of matrix products: alone, with a cluster as their epilogue, or several together.
 *
 * @module
 */

import { identityEpilogue } from "../../../kernels/matmul/frame.ts";
import { matmul as matmulText, reduceSplits as reduceSplitsText } from "../../../kernels/matmul/matmul.ts";
import { type Epilogue, isPaired, partialSize, splitOf } from "../../../kernels/matmul/types.ts";
import type { Tensor } from "../../tensor.ts";
import { codegen } from "../fuse/codegen.ts";
import type { Cluster } from "../types.ts";
import { addUnit, clusterPriority, type LowerContext } from "./context.ts";
import { isReadOutside } from "./epilogue.ts";
import { magnitudesFor } from "./pairs.ts";
import { type Product, productOf, variantOf } from "./products.ts";

/** How the kernel of a product stores its result. */
interface Stores {
  readonly epilogue: Epilogue;
  /** Buffers that the epilogue reads. */
  readonly loads: readonly number[];
  /** Buffers that it writes. */
  readonly writes: readonly number[];
}

/** Adds the launch of a product and of its epilogue: two launches where several workgroups share the sums. */
export function addProduct(context: LowerContext, node: Tensor): void {
  const { table, places, epilogues, target } = context, cluster = epilogues.get(node);
  const { product, operands } = productOf([node], context),
    given = operands.map((x) => table.bufferOf(x)),
    reads = [...given];
  const { epilogue, loads, writes } = cluster === undefined
    ? storesOf(context, { nodes: [node], product })
    : epilogueOf(context, { node, cluster });
  const variant = variantOf(product, target);
  if (isPaired({ ...product, variant })) reads.push(...magnitudesFor(context, { node, product }));
  const priority = cluster === undefined ? places.get(node)! : clusterPriority(context, cluster);
  const matmul = context.texts.remembered(matmulText);
  if (splitOf(variant) === 1) {
    const kernel = matmul({ ...product, variant, epilogue, units: target.units });
    addUnit(context, {
      kernel,
      reads: [...reads, ...loads],
      writes,
      priority,
      matmulFlops: kernel.flops,
      operands: given,
    });
    return;
  }
  const scratch = table.add(splitOf(variant) * partialSize(product)),
    kernel = matmul({ ...product, variant, units: target.units });
  addUnit(context, {
    kernel,
    reads,
    writes: [scratch],
    priority,
    matmulFlops: kernel.flops,
    operands: given,
  });
  const join = context.texts.remembered(reduceSplitsText)({ ...product, variant, epilogue });
  addUnit(context, { kernel: join, reads: [...loads, scratch], writes, priority });
}

/** Adds the launch of several products: each has its own result, and all are stored in one way. */
export function addProducts(context: LowerContext, nodes: readonly Tensor[]): void {
  const { table, places, target } = context;
  const { product, operands } = productOf(nodes, context), reads = operands.map((x) => table.bufferOf(x));
  const variant = variantOf(product, target), { epilogue, writes } = storesOf(context, { nodes, product });
  const priority = Math.max(...nodes.map((node) => places.get(node)!));
  const matmul = context.texts.remembered(matmulText);
  if (splitOf(variant) === 1) {
    const kernel = matmul({ ...product, variant, epilogue, units: target.units });
    addUnit(context, { kernel, reads, writes, priority, matmulFlops: kernel.flops, operands: reads });
    return;
  }
  const kernel = matmul({ ...product, variant, units: target.units });
  const scratch = nodes.map(() => table.add(splitOf(variant) * partialSize(product)));
  addUnit(context, { kernel, reads, writes: scratch, priority, matmulFlops: kernel.flops, operands: reads });
  const join = context.texts.remembered(reduceSplitsText)({ ...product, variant, epilogue });
  const bindings = scratch.flatMap((buffer, i) => [buffer, writes[i]]);
  addUnit(context, { kernel: join, reads: scratch, writes, priority, bindings });
}

/** Stores results as they are. */
function storesOf(
  { table, isHalf }: LowerContext,
  { nodes, product }: { readonly nodes: readonly Tensor[]; readonly product: Product },
): Stores {
  const { batch, m, n } = product;
  const epilogue = identityEpilogue([batch * m, n], isHalf(nodes[0]));
  return { epilogue, loads: [], writes: nodes.map((node) => table.bufferOf(node)) };
}

/** Computes a cluster from the result, and stores the result too where others read it. */
function epilogueOf(
  context: LowerContext,
  { node, cluster }: { readonly node: Tensor; readonly cluster: Cluster },
): Stores {
  const { fusion: { stored }, table, isHalf } = context;
  const own = table.bufferOf(node);
  const raw = isReadOutside(context, { node, inside: new Set(cluster.nodes) });
  const { expression, loads, stepOf } = codegen(cluster.stored, {
    stored,
    isHalf,
    bufferOf: (x) => table.bufferOf(x),
    scalarOf: (x) => table.scalarOf(x),
    shape: cluster.nodes[0].shape,
    given: node,
  });
  const given = expression.steps.findIndex(({ kind }) => kind === "given");
  return {
    epilogue: {
      expression,
      outputs: [...(raw ? [given] : []), ...cluster.stored.map((n) => stepOf.get(n)!)],
      half: [...(raw ? [node] : []), ...cluster.stored].map((n) => isHalf(n)),
    },
    loads,
    writes: [...(raw ? [own] : []), ...cluster.stored.map((n) => table.bufferOf(n))],
  };
}
