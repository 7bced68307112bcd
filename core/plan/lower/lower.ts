/**
 * From fused groups and ops to launches on numbered buffers.
 *
 * @module
 */

import { elementwise as elementwiseText, partialCount } from "../../../kernels/elementwise.ts";
import type { Expression } from "../../../kernels/expression.ts";
import { matmul as matmulText, reduceSplits as reduceSplitsText } from "../../../kernels/matmul/matmul.ts";
import { type Epilogue, partialSize } from "../../../kernels/matmul/types.ts";
import { identityEpilogue } from "../../../kernels/matmul/frame.ts";
import {
  collect,
  columnPieces,
  reduce,
  reduceThreads,
  type Run,
  RUN_FIELDS,
} from "../../../kernels/reduce.ts";
import { MAX_GROUPS } from "../../../kernels/kernel.ts";
import type { ReduceAttrs } from "../../ops/broadcast.ts";
import { type KernelText, sizeOf, type Tensor } from "../../tensor.ts";
import { baseOf, pickedBy } from "../alias.ts";
import { bufferTable } from "../buffers.ts";
import { batchesOf, type Program, sharedInputs } from "../fuse/batch_elementwise.ts";
import { express } from "../fuse/codegen.ts";
import {
  isAlias,
  isBroadcast,
  isConstant,
  isElement,
  isPick,
  isProduct,
  isReduction,
  isReshape,
  isSource,
  isSumEach,
} from "../predicates.ts";
import { storedSpec } from "../storage.ts";
import { loadAll } from "../strides.ts";
import type { Buffer, Cluster, PlanOptions, Prepared, StepValue, Unit } from "../types.ts";
import { textCache } from "./kernel_cache.ts";
import { productOf, variantOf } from "./products.ts";

/** The result of {@link createLowering}. */
export interface Lowering {
  readonly units: readonly Unit[];
  readonly buffers: readonly Buffer[];
  readonly scalars: readonly StepValue[];
  bufferOf(node: Tensor): number;
}

/**
 * Lowers a fused graph.
 *
 * @param prepared The graph
 * @param options What the device is, and kernels that are known
 * @returns Units on numbered buffers
 */
export function createLowering(
  prepared: Omit<Prepared, "ready" | "doubleBuffered">,
  { target, texts = textCache() }: Pick<PlanOptions, "target" | "texts">,
): Lowering {
  const { fusion, targets, together, isHalf } = prepared;
  const inGroups = new Set([...together.values()].flat());
  const { roots, order, readers, level, stored, clusters, clusterOf } = fusion;
  const levelOf = ({ nodes: [node] }: Cluster): number => level.get(node)!;
  /** Level of the launch of each product that shares one: that of the last of them. */
  const groupLevel = new Map(
    [...together.values()].flatMap((group) => {
      const last = Math.max(...group.map((node) => level.get(node)!));
      return group.map((node) => [node, last] as const);
    }),
  );
  const table = bufferTable(prepared), { bufferOf, scalarOf } = table;
  const units: Unit[] = [];
  const places = new Map(order.map((n, i) => [n, i]));

  const { remembered, keyOf } = texts;
  const matmul = remembered(matmulText), reduceSplits = remembered(reduceSplitsText);
  const elementwise = remembered(elementwiseText);

  function addUnit(
    unit: { kernel: KernelText; reads: readonly number[]; writes: readonly number[]; priority: number },
    extra: Partial<Pick<Unit, "bindings" | "overwrites" | "matmulFlops" | "inPlace">> = {},
  ): void {
    const bindings = extra.bindings ?? [...unit.reads, ...unit.writes];
    if (unit.kernel.grid.some((groups) => groups > MAX_GROUPS)) {
      throw new RangeError(
        `Cannot launch "${unit.kernel.name}" as WebGPU takes ${MAX_GROUPS} workgroups in a dimension: it needs ${
          unit.kernel.grid.join(" x ")
        }; use smaller batches or a shorter stack`,
      );
    }
    if (bindings.length > target.maxBindings) {
      throw new RangeError(
        `Cannot launch "${unit.kernel.name}" as the adapter binds ${target.maxBindings} buffers: it needs ${bindings.length}`,
      );
    }
    units.push({
      ...unit,
      bindings,
      overwrites: extra.overwrites ?? [],
      matmulFlops: extra.matmulFlops ?? 0,
      inPlace: extra.inPlace,
    });
  }

  const space = { stored, isHalf, bufferOf, scalarOf };
  /** Where the partial sums of a cluster are: a buffer, and its first row there. */
  const partials = new Map<Cluster, { readonly buffer: number; readonly row: number }>();
  const merged = new Map<Tensor, Cluster>();
  const programs: Program[] = [];
  for (const cluster of clusters) {
    const host = epilogueHost(cluster);
    if (host !== undefined) merged.set(host, cluster);
    else programs.push(programOf(cluster));
  }
  const { maxBindings } = target;
  const among = { targets, readers, order, clusterOf, levelOf, keyOf, maxBindings };
  for (const batch of batchesOf(programs, among)) addBatch(batch);
  for (const node of order) {
    if (isElement(node) || isSource(node) || isAlias(node)) continue;
    if (isProduct(node)) {
      if (!inGroups.has(node)) addProduct(node);
      else if (together.has(node)) addTogether(together.get(node)!);
    } else if (isReduction(node)) addReduce(node);
    else if (isSumEach(node)) addSums(node);
    else addKernel(node);
  }
  return { units, buffers: table.buffers, scalars: table.scalars, bufferOf: (node) => bufferOf(node) };

  function priorityOf(cluster: Cluster): number {
    return Math.max(...[...cluster.stored, ...cluster.summed].map((n) => places.get(n)!));
  }

  function programOf(cluster: Cluster): Program {
    const { nodes, stored, summed } = cluster;
    const [{ shape }] = nodes;
    const { expression, loads, stepOf } = express([...stored, ...summed], { ...space, shape });
    const outputs = stored.map((n) => bufferOf(n));
    const overwrites = stored.map((n, i) => {
      const at = targets.has(n) ? loads.indexOf(outputs[i]) : -1;
      return at < 0 ? null : at;
    });
    const names = [...new Set(nodes.filter((n) => !isBroadcast(n)).map((n) => n.op.name))];
    return {
      cluster,
      loads,
      outputs,
      fresh: outputs.filter((_, i) => overwrites[i] === null),
      group: {
        expression,
        outputs: stored.map((n) => stepOf.get(n)!),
        half: stored.map((n) => isHalf(n)),
        overwrites,
        sums: summed.map((n) => stepOf.get(n)!),
        partials: partialCount(sizeOf(shape), target),
        label: `${names.slice(0, 4).join("+") || "copy"}${names.length > 4 ? "+.." : ""} ${shape.join("x")}`,
      },
    };
  }

  function addBatch(batch: readonly Program[]): void {
    const [{ group, loads }] = batch;
    const sums = group.sums!.length, shared = sharedInputs(batch);
    const kernel = elementwise(batch.length === 1 ? group : { ...group, parts: batch.length, shared });
    const scratch: number[] = [];
    if (sums > 0) {
      const each = sums * group.partials!;
      scratch.push(table.add(batch.length * each));
      batch.forEach(({ cluster }, i) => partials.set(cluster, { buffer: scratch[0], row: i * sums }));
    }
    const own = batch.flatMap((part) => [
      ...part.loads.filter((_, k) => !shared.includes(k)),
      ...part.fresh,
    ]);
    const outputs = batch.flatMap((part) => part.outputs);
    addUnit({
      kernel,
      reads: batch.flatMap((part) => part.loads),
      writes: [...outputs, ...scratch],
      priority: Math.max(...batch.map((part) => priorityOf(part.cluster))),
    }, {
      bindings: [...shared.map((k) => loads[k]), ...own, ...scratch],
      overwrites: batch.flatMap(({ cluster, outputs }) =>
        outputs.filter((_, i) => targets.has(cluster.stored[i]))
      ),
    });
  }

  /** The product whose kernel can compute a cluster as it stores: the only late input of the cluster. */
  function epilogueHost(cluster: Cluster): Tensor | undefined {
    if (cluster.summed.length > 0 || cluster.stored.some((n) => targets.has(n))) return undefined;
    const inputs = new Set<Tensor>(), given = new Set<Tensor>();
    const own = new Set(cluster.stored), seen = new Set<Tensor>();
    const visit = (node: Tensor): void => {
      if (seen.has(node)) return;
      seen.add(node);
      if (isElement(node) && (own.has(node) || !stored.has(node))) node.inputs.forEach(visit);
      else if (!isSource(baseOf(node))) inputs.add(baseOf(node));
      else if (!isConstant(node)) given.add(baseOf(node));
    };
    cluster.stored.forEach(visit);
    const inside = new Set(cluster.nodes);
    /** Whether one launch can bind operands, what else the cluster reads, and results. */
    const fits = (p: Tensor): boolean => {
      const raw = isReadBeside(p, inside) ? 1 : 0;
      return p.inputs.length + inputs.size - 1 + given.size + raw + own.size <= target.maxBindings;
    };
    const products = [...inputs].filter((n) =>
      isProduct(n) && !merged.has(n) && !inGroups.has(n) &&
      sizeOf(n.shape) === sizeOf(cluster.nodes[0].shape) && fits(n)
    );
    // Nothing depends on another node of its level. Of several products the last one waits for the others.
    const before = (i: Tensor, p: Tensor): boolean => {
      const own = isElement(i) ? levelOf(clusterOf.get(i)!) : groupLevel.get(i) ?? level.get(i)!;
      const last = level.get(p)!;
      return own < last || (own === last && (isElement(i) || places.get(i)! < places.get(p)!));
    };
    return products.find((p) => [...inputs].every((i) => i === p || before(i, p)));
  }

  /**
   * Whether a product, in this shape or another, is wanted itself or read by others than some nodes: also by those that
   * compute again what one of the nodes makes of it and does not store.
   */
  function isReadBeside(node: Tensor, inside: ReadonlySet<Tensor>): boolean {
    return roots.has(node) ||
      readers.get(node)!.some((reader) =>
        isReshape(reader) || (inside.has(reader) && !stored.has(reader))
          ? isReadBeside(reader, inside)
          : !inside.has(reader)
      );
  }

  function addProduct(node: Tensor): void {
    const cluster = merged.get(node);
    const { product, operands } = productOf([node], isHalf), reads = operands.map((i) => bufferOf(i));
    let epilogue: Epilogue = identityEpilogue([product.batch * product.m, product.n], isHalf(node));
    let loads: readonly number[] = [], writes = [bufferOf(node)];
    if (cluster !== undefined) {
      const inside = new Set(cluster.nodes);
      const raw = isReadBeside(node, inside);
      const expressed = express(cluster.stored, {
        ...space,
        shape: cluster.nodes[0].shape,
        given: node,
      });
      loads = expressed.loads;
      const steps = [...expressed.expression.steps];
      const given = steps.findIndex((s) => s.kind === "given");
      epilogue = {
        expression: expressed.expression,
        outputs: [...(raw ? [given] : []), ...cluster.stored.map((n) => expressed.stepOf.get(n)!)],
        half: [...(raw ? [node] : []), ...cluster.stored].map((n) => isHalf(n)),
      };
      writes = [...(raw ? writes : []), ...cluster.stored.map((n) => bufferOf(n))];
    }
    const variant = variantOf(product, target);
    const priority = cluster === undefined ? places.get(node)! : priorityOf(cluster);
    if (variant.kind === "direct" || variant.split === 1) {
      const kernel = matmul({ ...product, variant, epilogue });
      addUnit({ kernel, reads: [...reads, ...loads], writes, priority }, { matmulFlops: kernel.flops });
      return;
    }
    const scratch = table.add(variant.split * partialSize(product));
    const kernel = matmul({ ...product, variant });
    addUnit({ kernel, reads, writes: [scratch], priority }, { matmulFlops: kernel.flops });
    addUnit({
      kernel: reduceSplits({ ...product, variant, epilogue }),
      reads: [...loads, scratch],
      writes,
      priority,
    });
  }

  /** Products that share a launch: each has its own result, and all are stored alike. */
  function addTogether(nodes: readonly Tensor[]): void {
    const { product, operands } = productOf(nodes, isHalf), reads = operands.map((i) => bufferOf(i));
    const variant = variantOf(product, target), writes = nodes.map((node) => bufferOf(node));
    const priority = Math.max(...nodes.map((node) => places.get(node)!));
    const epilogue = identityEpilogue([product.batch * product.m, product.n], isHalf(nodes[0]));
    if (variant.kind === "direct" || variant.split === 1) {
      const kernel = matmul({ ...product, variant, epilogue });
      addUnit({ kernel, reads, writes, priority }, { matmulFlops: kernel.flops });
      return;
    }
    const kernel = matmul({ ...product, variant });
    const scratch = nodes.map(() => table.add(variant.split * partialSize(product)));
    addUnit({ kernel, reads, writes: scratch, priority }, { matmulFlops: kernel.flops });
    addUnit({ kernel: reduceSplits({ ...product, variant, epilogue }), reads: scratch, writes, priority }, {
      bindings: scratch.flatMap((buffer, i) => [buffer, writes[i]]),
    });
  }

  function addReduce(node: Tensor): void {
    const { axis, count, kind } = node.attrs as ReduceAttrs;
    const [x] = node.inputs;
    const outer = sizeOf(x.shape.slice(0, axis));
    const length = sizeOf(x.shape.slice(axis, axis + count));
    const inner = sizeOf(x.shape.slice(axis + count));
    const { expression, loads } = isElement(x) && !stored.has(x)
      ? express([x], { ...space, shape: x.shape })
      : { expression: loadAll(storedSpec(x, isHalf(x))), loads: [bufferOf(x)] };
    const threads = target.software ? 1 : reduceThreads(length);
    const pieces = columnPieces({ outer, length, inner, threads });
    const label = `${kind} ${outer}x${length}x${inner}`;
    const priority = places.get(node)!, half = isHalf(node);
    if (pieces === 1) {
      const kernel = reduce({ expression, outer, length, inner, kind, threads, label, half });
      addUnit({ kernel, reads: loads, writes: [bufferOf(node)], priority });
      return;
    }
    const scratch = table.add(outer * pieces * inner);
    const kernel = reduce({ expression, outer, length, inner, kind, threads, label });
    addUnit({ kernel, reads: loads, writes: [scratch], priority });
    const rest: Expression = {
      shape: [outer * pieces * inner],
      inputs: [{ type: "f32", strides: [1] }],
      steps: [{ kind: "load", input: 0 }],
    };
    // 64 pieces or fewer: the second launch never splits again.
    const join = reduce({
      expression: rest,
      outer,
      length: pieces,
      inner,
      kind,
      threads,
      label: `${label} join`,
      half,
    });
    addUnit({ kernel: join, reads: [scratch], writes: [bufferOf(node)], priority });
  }

  function addSums(node: Tensor): void {
    const most = target.maxBindings - 2, { size } = node.attrs as { size: number };
    for (let place = 0; place < size;) {
      const reads: number[] = [], runs: Run[] = [];
      for (; place < size; place++) {
        const input = node.inputs[place];
        if (input === undefined) {
          runs.push({ input: 0, start: 0, count: 0, place });
          continue;
        }
        const cluster = clusterOf.get(input)!, { buffer, row } = partials.get(cluster)!;
        if (!reads.includes(buffer)) {
          if (reads.length === most) break;
          reads.push(buffer);
        }
        const count = partialCount(sizeOf(input.shape), target);
        const start = (row + cluster.summed.indexOf(input)) * count;
        runs.push({ input: reads.indexOf(buffer), start, count, place });
      }
      // As many inputs as a power of two, of which some are the same: few texts for any number of sums.
      const inputs = Math.min(most, 2 ** Math.ceil(Math.log2(reads.length)));
      const filled = Array.from({ length: inputs }, (_, i) => reads[Math.min(i, reads.length - 1)]);
      const numbers = table.constant(
        Uint32Array.from(runs.flatMap((run) => RUN_FIELDS.map((field) => run[field]))),
      );
      const writes = [bufferOf(node)], priority = places.get(node)!;
      addUnit({ kernel: collect({ inputs, runs }), reads: [numbers, ...reads], writes, priority }, {
        bindings: [numbers, ...filled, ...writes],
      });
    }
  }

  function addKernel(node: Tensor): void {
    const { op, inputs, attrs } = node;
    const outputs = op.infer(inputs, attrs).map((spec, k) => storedSpec(spec, isHalf(node, k)));
    const mine = readers.get(node)!;
    const wanted = outputs.map((_, k) =>
      k === 0
        ? roots.has(node) || mine.some((r) => !isPick(r))
        : mine.some((r) => isPick(r) && pickedBy(r) === k)
    );
    const specs = inputs.map((x) => storedSpec(x, isHalf(x)));
    const call = remembered(op.kernel!)({ inputs: specs, outputs, wanted, attrs, target });
    const reads = (call.reads ?? inputs.map((_, i) => i)).map((i) => bufferOf(inputs[i]));
    const writes = (call.writes ?? outputs.flatMap((_, k) => wanted[k] ? [k] : [])).map((k) =>
      bufferOf(node, k)
    );
    const matmulFlops = op.matmulFlops?.(inputs, op.infer(inputs, attrs), attrs, wanted) ?? 0;
    const inPlace = call.alias && { ...call.alias, input: bufferOf(inputs[call.alias.input]) };
    addUnit({ kernel: call.kernel, reads, writes, priority: places.get(node)! }, { matmulFlops, inPlace });
  }
}
