/**
 * Launches of elementwise clusters.
 *
 * @module
 */

import { elementwise as elementwiseText, partialCount } from "../../../kernels/elementwise.ts";
import { sizeOf } from "../../spec.ts";
import { type Program, sharedInputs } from "../fuse/batch_elementwise.ts";
import { codegen } from "../fuse/codegen.ts";
import { isBroadcast } from "../predicates.ts";
import type { Cluster } from "../types.ts";
import { addUnit, clusterPriority, type LowerContext } from "./context.ts";

/** Operations that the name of a kernel lists. */
const MOST_NAMES = 4;

/** The program of a cluster, and the buffers that it reads and writes. */
export function programOf(
  { fusion, targets, table, isHalf, target, texts }: LowerContext,
  cluster: Cluster,
): Program {
  const { nodes, stored, summed } = cluster, [{ shape }] = nodes;
  const { expression, loads, stepOf } = codegen([...stored, ...summed], {
    stored: fusion.stored,
    isHalf,
    bufferOf: (node) => table.bufferOf(node),
    scalarOf: (node) => table.scalarOf(node),
    shape,
  });
  const outputs = stored.map((node) => table.bufferOf(node));
  const overwrites = stored.map((node, i) => {
    const at = targets.has(node) ? loads.indexOf(outputs[i]) : -1;
    return at < 0 ? null : at;
  });
  const group = {
    expression,
    outputs: stored.map((node) => stepOf.get(node)!),
    half: stored.map((node) => isHalf(node)),
    overwrites,
    sums: summed.map((node) => stepOf.get(node)!),
    partials: partialCount(sizeOf(shape), target),
    label: labelOf(cluster),
  };
  const fresh = outputs.filter((_, i) => overwrites[i] === null);
  return { cluster, loads, outputs, fresh, group, key: texts.keyOf(group) };
}

function labelOf({ nodes }: Cluster): string {
  const names = [...new Set(nodes.filter((node) => !isBroadcast(node)).map(({ op }) => op.name))];
  const more = names.length > MOST_NAMES ? "+.." : "";
  return `${names.slice(0, MOST_NAMES).join("+") || "copy"}${more} ${nodes[0].shape.join("x")}`;
}

/** Adds the launch of programs that share one. */
export function addPrograms(context: LowerContext, batch: readonly Program[]): void {
  const { texts, table, partials, targets } = context;
  const [{ group, key, loads }] = batch, sums = group.sums!.length, shared = sharedInputs(batch);
  const [whole, keyOf] = batch.length === 1
    ? [group, () => key]
    : [{ ...group, parts: batch.length, shared }, () => `${key} ${batch.length} ${shared}`];
  const kernel = texts.remembered(elementwiseText, keyOf)(whole);
  const scratch: number[] = [];
  if (sums > 0) {
    scratch.push(table.add(batch.length * sums * group.partials!));
    batch.forEach(({ cluster }, i) => partials.set(cluster, { buffer: scratch[0], row: i * sums }));
  }
  const own = batch.flatMap((part) => [...part.loads.filter((_, k) => !shared.includes(k)), ...part.fresh]);
  addUnit(context, {
    kernel,
    reads: batch.flatMap((part) => part.loads),
    writes: [...batch.flatMap((part) => part.outputs), ...scratch],
    priority: Math.max(...batch.map((part) => clusterPriority(context, part.cluster))),
    bindings: [...shared.map((k) => loads[k]), ...own, ...scratch],
    overwrites: batch.flatMap(({ cluster, outputs }) =>
      outputs.filter((_, i) => targets.has(cluster.stored[i]))
    ),
  });
}
