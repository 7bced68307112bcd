/**
 * Batches clusters that run the same program on different buffers, as an optimizer does for each parameter.
 *
 * @module
 */

import type { Elementwise } from "../../../kernels/elementwise.ts";
import { topological } from "../../graph.ts";
import { sizeOf } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import type { Cluster, Fusion } from "../types.ts";
import { isReshape } from "../predicates.ts";
import { isRounding } from "../weight_copies.ts";
import { cycles } from "./cycles.ts";

/** A cluster as a program on numbered buffers. */
export interface Program {
  readonly cluster: Cluster;
  readonly group: Elementwise;
  /** A string that is equal for equal groups. */
  readonly key: string;
  /** Buffers of the inputs. */
  readonly loads: readonly number[];
  /** Buffers of the outputs. */
  readonly outputs: readonly number[];
  /** Buffers among the outputs that overwrite no input. */
  readonly fresh: readonly number[];
}

/** What is known about the programs of a graph. */
export interface BatchOptions extends Omit<Fusion, "roots" | "level" | "places"> {
  /** Nodes that overwrite a leaf, and the leaf. */
  readonly targets: ReadonlyMap<Tensor, Tensor>;
  /** Launch level of a cluster; clusters of one level do not depend on each other. */
  levelOf(cluster: Cluster): number;
  /** Buffers that a launch can bind. */
  readonly maxBindings: number;
}

/** Larger tensors keep the device busy on their own, and a batch keeps the inputs of all its programs in memory. */
const LARGEST = 2 ** 22;

/**
 * Batches programs that may share a launch: updates of leaves, sums, and copies of weights.
 *
 * @param programs All programs
 * @param options Levels, readers and limits
 * @returns Batches in the order of their first program; most have one program
 */
export function batchElementwise(programs: readonly Program[], options: BatchOptions): Program[][] {
  const batches = new Map<unknown, Program[]>();
  const waiting = new Set(programs.filter((program) => mayWait(program, options)));
  const before = readBefore([...waiting], options);
  for (const program of programs) {
    const { cluster, key: text } = program;
    const waits = waiting.has(program) &&
      cluster.summed.every((node) => options.readers.get(node)!.every((reader) => !before.has(reader)));
    // Copies of weights depend on nothing else, and most live from the forward to the backward pass.
    const early = cluster.nodes.every(isRounding);
    const key = early ? `copy ${text}` : waits ? `${options.levelOf(cluster)} ${text}` : program;
    const known = batches.get(key);
    if (known === undefined) batches.set(key, [program]);
    else known.push(program);
  }
  const fitting = [...batches.values()].flatMap((batch) => {
    if (batch.length === 1 || overwriteInputs(batch)) return batch.map((program) => [program]);
    const shared = sharedInputs(batch), [{ loads, fresh, group }] = batch;
    const each = loads.length - shared.length + fresh.length;
    const room = options.maxBindings - shared.length - (group.sums!.length > 0 ? 1 : 0);
    const most = Math.max(1, Math.floor(room / Math.max(1, each)));
    let at = 0;
    return portions(batch.length, most).map((count) => batch.slice(at, at += count));
  });
  return withoutCycles(fitting, options);
}

/**
 * Splits batches whose programs cannot share a launch: program A must run before C, and C before B, as each overwrites a
 * leaf that the one before it reads. Then A and B need two launches.
 */
function withoutCycles(batches: Program[][], options: BatchOptions): Program[][] {
  const writer = new Map(
    batches.flatMap((batch) =>
      batch.flatMap(({ cluster, outputs }) =>
        cluster.stored.flatMap((node, i) => options.targets.has(node) ? [[outputs[i], batch] as const] : [])
      )
    ),
  );
  // A launch waits for no program of its own batch, so that only leaves which other batches overwrite can make a cycle.
  const mayWait = batches.some((batch) =>
    batch.some(({ loads }) => loads.some((b) => (writer.get(b) ?? batch) !== batch))
  );
  if (!mayWait) return batches;
  const shared = batches.filter(({ length }) => length > 1);
  const clusters = shared.map((batch) => batch.map(({ cluster }) => cluster));
  const waiting = new Set(cycles(options, { ...options, batches: clusters }).flat());
  const apart = shared.filter(([{ cluster }]) => waiting.has(cluster));
  if (apart.length === 0) return batches;
  return withoutCycles(
    batches.flatMap((batch) => apart.includes(batch) ? batch.map((program) => [program]) : [batch]),
    options,
  );
}

/** Splits a count into sizes that are `most` or powers of two: when the count changes, most kernels stay the same. */
function portions(count: number, most: number): number[] {
  const parts: number[] = [];
  for (let rest = count; rest > 0; rest -= parts.at(-1)!) {
    parts.push(rest >= most ? most : 2 ** Math.floor(Math.log2(rest)));
  }
  return parts;
}

/** Whether one program overwrites what another reads: in one launch WebGPU binds a buffer for reading or for writing. */
function overwriteInputs(batch: readonly Program[]): boolean {
  const writer = new Map(batch.flatMap((program) => program.outputs.map((b) => [b, program] as const)));
  return batch.some((program) => program.loads.some((b) => (writer.get(b) ?? program) !== program));
}

/** Indices of inputs whose buffer is the same in all programs of a batch. */
export function sharedInputs(batch: readonly Program[]): number[] {
  if (batch.length === 1) return [];
  const overwritten = batch[0].group.overwrites!;
  return batch[0].loads.flatMap((buffer, k) =>
    !overwritten.includes(k) && batch.every(({ loads }) => loads[k] === buffer) ? [k] : []
  );
}

/** Whether a program is small and writes only sums, and leaves that nobody reads afterwards, so that it may run later. */
function mayWait({ cluster: { nodes, stored } }: Program, { targets, readers }: BatchOptions): boolean {
  return sizeOf(nodes[0].shape) <= LARGEST &&
    stored.every((node) => targets.has(node) && readers.get(node)!.length === 0);
}

/**
 * Nodes that must run before a program that may wait: they read a leaf which the program overwrites, or such a reader
 * depends on them. Programs whose sums such a node needs cannot wait for each other.
 */
function readBefore(
  programs: readonly Program[],
  { targets, readers, clusterOf }: BatchOptions,
): ReadonlySet<Tensor> {
  const writer = new Map<Tensor, Cluster>();
  for (const { cluster } of programs) {
    for (const node of cluster.stored) writer.set(targets.get(node)!, cluster);
  }
  const foreign: Tensor[] = [];
  const find = (value: Tensor, cluster: Cluster): void => {
    for (const reader of readers.get(value) ?? []) {
      if (clusterOf.get(reader) !== cluster) foreign.push(reader);
      if (isReshape(reader)) find(reader, cluster);
    }
  };
  for (const [leaf, cluster] of writer) find(leaf, cluster);
  return new Set(topological(foreign));
}
