/**
 * Which clusters the kernel of a matrix product computes as it stores its result.
 *
 * @module
 */

import { sizeOf, type Tensor } from "../../tensor.ts";
import { baseOf } from "../alias.ts";
import { isConstant, isElement, isProduct, isReshape, isSource } from "../predicates.ts";
import type { Cluster } from "../types.ts";
import type { LowerContext } from "./context.ts";

/** What a cluster reads. */
interface ClusterInputs {
  /** Values that other launches compute. */
  readonly computed: ReadonlySet<Tensor>;
  /** Leaves and host data. */
  readonly given: ReadonlySet<Tensor>;
}

/**
 * Finds the product whose kernel can compute a cluster as it stores.
 *
 * @param context What is lowered
 * @param cluster A cluster
 * @returns The product: the last value that the cluster waits for; undefined when there is none
 */
export function epilogueHost(context: LowerContext, cluster: Cluster): Tensor | undefined {
  const { targets, epilogues, sharing } = context;
  if (cluster.summed.length > 0 || cluster.stored.some((node) => targets.has(node))) return undefined;
  const inputs = inputsOf(context, cluster), size = sizeOf(cluster.nodes[0].shape);
  return [...inputs.computed].filter((node) =>
    isProduct(node) && !epilogues.has(node) && !sharing.has(node) && sizeOf(node.shape) === size &&
    fits(context, { product: node, cluster, inputs })
  ).find((product) =>
    [...inputs.computed].every((input) => input === product || isBefore(context, { input, product }))
  );
}

function inputsOf({ fusion: { stored } }: LowerContext, cluster: Cluster): ClusterInputs {
  const computed = new Set<Tensor>(), given = new Set<Tensor>();
  const own = new Set(cluster.stored), seen = new Set<Tensor>();
  const visit = (node: Tensor): void => {
    if (seen.has(node)) return;
    seen.add(node);
    if (isElement(node) && (own.has(node) || !stored.has(node))) node.inputs.forEach(visit);
    else if (!isSource(baseOf(node))) computed.add(baseOf(node));
    else if (!isConstant(node)) given.add(baseOf(node));
  };
  cluster.stored.forEach(visit);
  return { computed, given };
}

/** Whether one launch can bind the operands, what else the cluster reads, and the results. */
function fits(
  context: LowerContext,
  { product, cluster, inputs: { computed, given } }: {
    readonly product: Tensor;
    readonly cluster: Cluster;
    readonly inputs: ClusterInputs;
  },
): boolean {
  const own = isReadOutside(context, { node: product, inside: new Set(cluster.nodes) }) ? 1 : 0;
  const others = computed.size - 1 + given.size;
  return product.inputs.length + others + own + cluster.stored.length <= context.target.maxBindings;
}

/**
 * Whether an input of a cluster is there before a product runs. Nothing depends on another node of its level; of several
 * products on one level the last one waits for the others.
 */
function isBefore(
  { fusion: { level, clusterOf }, launchLevel, places }: LowerContext,
  { input, product }: { readonly input: Tensor; readonly product: Tensor },
): boolean {
  const own = isElement(input) ? level.get(clusterOf.get(input)!.nodes[0])! : launchLevel.get(input)!;
  const last = level.get(product)!;
  if (own !== last) return own < last;
  return isElement(input) || places.get(input)! < places.get(product)!;
}

/**
 * Whether a node, in this shape or another, is wanted itself or read outside of some nodes. A reader outside also reads it
 * when it computes again what one of the nodes makes of it and does not store.
 *
 * @param context What is lowered
 * @param options The node, and the nodes
 * @returns True when the value of the node must be in memory
 */
export function isReadOutside(
  context: LowerContext,
  { node, inside }: { readonly node: Tensor; readonly inside: ReadonlySet<Tensor> },
): boolean {
  const { roots, readers, stored } = context.fusion;
  return roots.has(node) ||
    readers.get(node)!.some((reader) =>
      isReshape(reader) || (inside.has(reader) && !stored.has(reader))
        ? isReadOutside(context, { node: reader, inside })
        : !inside.has(reader)
    );
}
