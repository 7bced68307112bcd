/**
 * Which clusters the kernel of a matrix product computes as it stores its result.
 *
 * @module
 */

import { sizeOf } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import { baseOf } from "../alias.ts";
import { isElement, isProduct, isReshape, isSource } from "../predicates.ts";
import type { Cluster } from "../types.ts";
import { loadKeys, walkComputed } from "../fuse/loads.ts";
import type { LowerContext } from "./context.ts";

/** What a cluster reads, and the bindings that this takes: a buffer is bound once for each shape in which it is read. */
interface ClusterInputs {
  /** Values that other launches compute. */
  readonly computed: ReadonlyMap<Tensor, ReadonlySet<number>>;
  /** Leaves, host data and scalars. */
  readonly given: ReadonlyMap<Tensor, ReadonlySet<number>>;
}

/**
 * Finds the product whose kernel can compute a cluster as it stores.
 *
 * @param context What is lowered
 * @param cluster A cluster
 * @returns The product, which is computed last of all inputs; undefined when there is none
 */
export function epilogueHost(context: LowerContext, cluster: Cluster): Tensor | undefined {
  const { targets, epilogues, sharing } = context;
  if (cluster.summed.length > 0 || cluster.stored.some((node) => targets.has(node))) return undefined;
  const inputs = inputsOf(context, cluster), size = sizeOf(cluster.nodes[0].shape);
  const values = [...inputs.computed.keys()];
  return values.filter((node) =>
    isProduct(node) && !epilogues.has(node) && !sharing.has(node) && sizeOf(node.shape) === size &&
    fits(context, { product: node, cluster, inputs })
  ).find((product) => values.every((input) => input === product || isBefore(context, { input, product })));
}

function inputsOf({ fusion: { stored } }: LowerContext, cluster: Cluster): ClusterInputs {
  const computed = new Map<Tensor, Set<number>>(), given = new Map<Tensor, Set<number>>();
  const own = new Set(cluster.stored), keyOf = loadKeys();
  walkComputed(cluster.stored, {
    isComputed: (node) => own.has(node) || !stored.has(node),
    seen: new Set(),
    visit(node, isOwn) {
      const key = keyOf(node), base = baseOf(node);
      if (isOwn || key === null) return;
      const inputs = isSource(base) ? given : computed;
      inputs.set(base, (inputs.get(base) ?? new Set()).add(key));
    },
  });
  return { computed, given };
}

/** Bindings for the largest magnitudes of both operands. */
const MAGNITUDES = 2;

/** Whether one launch can bind the operands, the other inputs of the cluster, and the results. */
function fits(
  context: LowerContext,
  { product, cluster, inputs: { computed, given } }: {
    readonly product: Tensor;
    readonly cluster: Cluster;
    readonly inputs: ClusterInputs;
  },
): boolean {
  const own = isReadOutside(context, { node: product, inside: new Set(cluster.nodes) }) ? 1 : 0;
  let others = 0;
  for (const [node, bindings] of [...computed, ...given]) if (node !== product) others += bindings.size;
  const operands = product.inputs.length + (context.paired ? MAGNITUDES : 0);
  return operands + others + own + cluster.stored.length <= context.target.maxBindings;
}

/**
 * Whether an input of a cluster is computed before a product. Nodes of one level do not depend on each other; of several
 * products on one level, the last one runs after the others.
 */
function isBefore(
  { fusion: { level, clusterOf }, launchLevel, places }: LowerContext,
  { input, product }: { readonly input: Tensor; readonly product: Tensor },
): boolean {
  const own = isElement(input) ? level.get(clusterOf.get(input)!.nodes[0])! : launchLevel(input);
  const last = level.get(product)!;
  if (own !== last) return own < last;
  return isElement(input) || places.get(input)! < places.get(product)!;
}

/**
 * Whether the value of a node is needed outside of some nodes. A reader outside also needs it when it recomputes a node
 * inside that is not stored.
 *
 * @param context What is lowered
 * @param options The node, and the nodes
 * @returns True when the value must be in memory: it is a root, or somebody outside reads it, perhaps reshaped
 */
export function isReadOutside(
  context: LowerContext,
  { node, inside }: { readonly node: Tensor; readonly inside: ReadonlySet<Tensor> },
): boolean {
  const { roots, readers, stored } = context.fusion;
  const seen = new Set([node]), open = [node];
  while (open.length > 0) {
    const value = open.pop()!;
    if (roots.has(value)) return true;
    for (const reader of readers.get(value)!) {
      if (!isReshape(reader) && !(inside.has(reader) && !stored.has(reader))) {
        if (!inside.has(reader)) return true;
      } else if (!seen.has(reader)) {
        seen.add(reader);
        open.push(reader);
      }
    }
  }
  return false;
}
