/**
 * What lowering knows of a plan, and the launches that it has made so far.
 *
 * @module
 */

import { InputError, OutOfMemoryError } from "../../errors.ts";
import { MAX_GROUPS } from "../../../kernels/kernel.ts";
import type { KernelText, Target } from "../../kernel_call.ts";
import type { Tensor } from "../../tensor.ts";
import { type BufferTable, bufferTable } from "../buffers.ts";
import { bindingLimit } from "../rows.ts";
import type {
  Cluster,
  Fusion,
  IsHalf,
  IsLarge,
  Known,
  PlanOptions,
  Prepared,
  TextCache,
  Unit,
} from "../types.ts";
import { textCache } from "./kernel_cache.ts";

/** Handed from function to function while a graph is lowered. */
export interface LowerContext {
  readonly fusion: Fusion;
  /** Nodes that overwrite a leaf, and the leaf. */
  readonly targets: ReadonlyMap<Tensor, Tensor>;
  readonly isHalf: IsHalf;
  readonly isLarge: IsLarge;
  /** Products that share a launch, by the first of them. */
  readonly batched: ReadonlyMap<Tensor, readonly Tensor[]>;
  /** Whether matrix units multiply f32 as pairs of f16. */
  readonly paired: boolean;
  /** Buffers of the largest magnitudes of operands of such products, by the operand and then by how it is read. */
  readonly magnitudes: Map<Tensor, Map<string, number>>;
  /** The products that share a launch. */
  readonly sharing: ReadonlySet<Tensor>;
  /** The level at which a node is computed: products that share a launch are computed at the level of the last one. */
  readonly launchLevel: (node: Tensor) => number;
  readonly target: Target;
  readonly texts: TextCache;
  readonly table: BufferTable;
  /** Index of each node in the order of the graph. */
  readonly places: Known<number>;
  /** Clusters that the kernel of a product computes, by the product. */
  readonly epilogues: Map<Tensor, Cluster>;
  /** Where the partial sums of a cluster are: a buffer, and its first row there. */
  readonly partials: Map<Cluster, { readonly buffer: number; readonly row: number }>;
  /** The launches so far. */
  readonly units: Unit[];
}

/** Makes the context of a graph, without any launch yet. */
export function lowerContext(
  prepared: Pick<Prepared, "fusion" | "targets" | "isHalf" | "isLarge" | "batched" | "paired">,
  { target, texts = textCache() }: Pick<PlanOptions, "target" | "texts">,
): LowerContext {
  const { fusion, targets, isHalf, isLarge, batched, paired } = prepared, { places, level } = fusion;
  const lastLevel = new Map<Tensor, number>();
  for (const group of batched.values()) {
    const last = Math.max(...group.map((node) => level.get(node)!));
    for (const node of group) lastLevel.set(node, last);
  }
  return {
    fusion,
    targets,
    isHalf,
    isLarge,
    batched,
    paired,
    magnitudes: new Map(),
    sharing: new Set([...batched.values()].flat()),
    launchLevel: (node) => lastLevel.get(node) ?? level.get(node)!,
    target,
    texts,
    table: bufferTable(prepared),
    places,
    epilogues: new Map(),
    partials: new Map(),
    units: [],
  };
}

/** A launch to be added. When `bindings` is absent, it binds its reads and then its writes. */
export interface NewUnit extends Pick<Unit, "kernel" | "reads" | "writes" | "priority" | "early"> {
  readonly bindings?: readonly number[];
  readonly overwrites?: readonly number[];
  readonly matmulFlops?: number;
  readonly inPlace?: Unit["inPlace"];
  readonly operands?: readonly number[];
}

/**
 * Adds a launch.
 *
 * @throws {InputError} When the device takes neither as many workgroups nor as many buffers
 */
export function addUnit(context: LowerContext, unit: NewUnit): void {
  const { units, target: { maxBindings } } = context;
  const { bindings = [...unit.reads, ...unit.writes], overwrites = [], matmulFlops = 0, inPlace } = unit;
  checkGrid(unit.kernel);
  checkBytes(context, { kernel: unit.kernel, bindings });
  if (bindings.length > maxBindings) {
    throw new InputError(
      `Cannot launch "${unit.kernel.name}" as the adapter binds ${maxBindings} buffers: it needs ${bindings.length}`,
    );
  }
  units.push({ ...unit, bindings, overwrites, matmulFlops, inPlace });
}

function checkBytes({ table, target: { maxBindingBytes = Infinity } }: LowerContext, { kernel, bindings }: {
  readonly kernel: KernelText;
  readonly bindings: readonly number[];
}): void {
  const bytes = Math.max(...bindings.map((b) => table.buffers[b].bytes));
  if (bytes <= maxBindingBytes) return;
  throw new OutOfMemoryError(`values of "${kernel.name}"`, bytes, bindingLimit(maxBindingBytes));
}

function checkGrid({ name, grid }: KernelText): void {
  if (grid.every((groups) => groups <= MAX_GROUPS)) return;
  throw new InputError(
    `Cannot launch "${name}" as WebGPU takes ${MAX_GROUPS} workgroups in a dimension: it needs ${
      grid.join(" x ")
    }; use smaller batches or a shorter stack`,
  );
}

/** Priority of a launch that computes a cluster: the place of its last result. */
export function clusterPriority({ places }: LowerContext, { stored, summed }: Cluster): number {
  return Math.max(...[...stored, ...summed].map((node) => places.get(node)!));
}
