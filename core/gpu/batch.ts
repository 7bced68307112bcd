/**
 * Which clusters one launch can compute: the same program on other buffers, as an optimizer runs it on each parameter.
 *
 * @module
 */

import type { Elementwise } from "../../kernels/elementwise.ts";
import { sizeOf, type Tensor } from "../tensor.ts";
import type { Cluster } from "./fuse.ts";

/** A cluster as a kernel sees it. */
export interface Program {
  readonly cluster: Cluster;
  readonly group: Elementwise;
  /** Buffers of the inputs. */
  readonly loads: readonly number[];
  /** Buffers of the outputs. */
  readonly outputs: readonly number[];
  /** Buffers among the outputs that overwrite no input. */
  readonly fresh: readonly number[];
}

/** What decides about batches. */
export interface BatchOptions {
  /** Nodes that overwrite a leaf, and the leaf. */
  readonly targets: ReadonlyMap<Tensor, Tensor>;
  readonly readers: ReadonlyMap<Tensor, readonly Tensor[]>;
  /** Launch level of a cluster: equal ones do not depend on each other. */
  levelOf(cluster: Cluster): number;
  /** Equal for equal groups. */
  keyOf(group: Elementwise): string;
  /** Buffers that a launch can bind. */
  readonly maxBindings: number;
}

/** Larger tensors keep the device busy on their own; and batches keep what they read in memory. */
const LARGEST = 2 ** 20;

/**
 * Puts programs together that may share a launch: updates of leaves that nobody reads, and sums.
 *
 * @param programs All programs
 * @param options Levels, readers and limits
 * @returns Batches, in the order of their first program; most have one
 */
export function batchesOf(programs: readonly Program[], options: BatchOptions): Program[][] {
  const batches = new Map<unknown, Program[]>();
  for (const program of programs) {
    const { cluster, group } = program;
    const key = mayWait(program, options) ? `${options.levelOf(cluster)} ${options.keyOf(group)}` : program;
    const known = batches.get(key);
    if (known === undefined) batches.set(key, [program]);
    else known.push(program);
  }
  return [...batches.values()].flatMap((batch) => {
    if (batch.length === 1 || touchEachOther(batch) || isReadLater(batch, options)) {
      return batch.map((program) => [program]);
    }
    const shared = sharedInputs(batch), [{ loads, fresh, group }] = batch;
    const each = loads.length - shared.length + fresh.length;
    const room = options.maxBindings - shared.length - (group.sums!.length > 0 ? 1 : 0);
    const most = Math.max(1, Math.floor(room / Math.max(1, each)));
    const parts: Program[][] = [];
    for (let at = 0; at < batch.length; at += most) parts.push(batch.slice(at, at + most));
    return parts;
  });
}

/** Whether one overwrites what another reads: WebGPU binds no buffer both ways in one launch. */
function touchEachOther(batch: readonly Program[]): boolean {
  const writer = new Map(batch.flatMap((program) => program.outputs.map((b) => [b, program] as const)));
  return batch.some((program) => program.loads.some((b) => (writer.get(b) ?? program) !== program));
}

/** Inputs whose buffer is the same in all programs of a batch. */
export function sharedInputs(batch: readonly Program[]): number[] {
  if (batch.length === 1) return [];
  const overwritten = batch[0].group.overwrites!;
  return batch[0].loads.flatMap((buffer, k) =>
    !overwritten.includes(k) && batch.every(({ loads }) => loads[k] === buffer) ? [k] : []
  );
}

/** Whether a program is small, and writes nothing but sums and leaves that nobody reads afterwards. */
function mayWait({ cluster: { nodes, stored } }: Program, { targets, readers }: BatchOptions): boolean {
  return sizeOf(nodes[0].shape) <= LARGEST &&
    stored.every((node) => targets.has(node) && readers.get(node)!.length === 0);
}

/** Whether what depends on the sums of a batch reads a leaf that the batch overwrites: then each must wait for the other. */
function isReadLater(batch: readonly Program[], { targets, readers }: BatchOptions): boolean {
  const leaves = new Set(batch.flatMap(({ cluster }) => cluster.stored.map((node) => targets.get(node)!)));
  const own = new Set(batch.flatMap(({ cluster }) => cluster.nodes));
  const open = batch.flatMap(({ cluster }) => cluster.summed.flatMap((node) => readers.get(node)!));
  const seen = new Set<Tensor>(own);
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    if (node.inputs.some((input) => leaves.has(input))) return true;
    open.push(...readers.get(node)!);
  }
  return false;
}
