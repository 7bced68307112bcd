/**
 * The buffers of a plan on a device.
 *
 * @module
 */

import { wholeOf } from "../plan/rows.ts";
import { bytesOf } from "../plan/storage.ts";
import type { Plan, Source } from "../plan/types.ts";
import type { Tensor } from "../tensor.ts";
import { createBuffer, destroyBuffer, writeValues } from "./buffers.ts";
import type { Gpu } from "./device.ts";
import type { RecordedBuffers } from "./double_buffers.ts";
import { isResident, storageOf } from "./residents.ts";

/** Gives the buffer of a leaf when a plan is recorded. */
export type Resolve = (leaf: Tensor) => GPUBuffer;

/** The buffers of a plan. Buffers of intermediate values are created on first use. */
export interface PlanBuffers extends RecordedBuffers {
  /** The buffer of the scalars that change with the step; null when there are none. */
  readonly scalars: GPUBuffer | null;
  /** The buffers of step scalars by the number of steps that were left out. */
  readonly tables: readonly (ScalarTable & { readonly buffer: GPUBuffer })[];
  /** The buffer by its number in the plan. */
  of(index: number): GPUBuffer;
  /** Creates all buffers that do not exist yet. */
  createAll(): void;
}

type ScalarTable = Extract<Source, { kind: "table" }>;
type Slot = Extract<Source, { kind: "slot" }>;

/**
 * Finds or creates the buffers of a plan.
 *
 * @param gpu The device
 * @param options The plan, the buffers of its leaves, a name for errors, and buffers of an earlier recording to reuse.
 * `owned`: every buffer that is created here is added, also when this throws
 * @returns The buffers
 * @throws {OutOfMemoryError} When one is larger than a buffer of the device can be
 */
export function planBuffers(
  gpu: Gpu,
  { plan, resolve, label, spare, owned }: {
    readonly plan: Plan;
    readonly resolve?: Resolve;
    readonly label: string;
    readonly spare: readonly GPUBuffer[];
    readonly owned: GPUBuffer[];
  },
): PlanBuffers {
  function own(options: { readonly label: string; readonly bytes: number }): GPUBuffer {
    const buffer = createBuffer(gpu, options);
    owned.push(buffer);
    return buffer;
  }
  const slots = keepFor(plan, spare);
  owned.push(...slots.filter((buffer) => buffer !== undefined));
  let scalars: GPUBuffer | null = null;
  const tables: (ScalarTable & { readonly buffer: GPUBuffer })[] = [];
  const results = new Map<Tensor, GPUBuffer>();
  const resultIn = (whole: Tensor): GPUBuffer => {
    if (!results.has(whole)) {
      results.set(whole, own({ label: `a result of "${label}"`, bytes: bytesOf(whole) }));
    }
    return results.get(whole)!;
  };
  const bound = [...plan.copies.fixed, ...plan.copies.changing, ...plan.launches].flatMap(({ bindings }) =>
    bindings
  );
  const used = new Set([...bound, ...plan.roots]);
  const buffers = plan.buffers.map(({ source, bytes }, i): GPUBuffer | null => {
    if (!used.has(i) || source.kind === "slot") return null;
    if (source.kind === "leaf") {
      const whole = wholeOf(source.node);
      return isResident(whole) ? storageOf(whole).buffer : resolve!(whole);
    }
    if (source.kind === "result") return resultIn(wholeOf(source.node));
    const buffer = own({ label: `${label} ${source.kind}`, bytes });
    if (source.kind === "scalars") scalars = buffer;
    else if (source.kind === "table") tables.push({ ...source, buffer });
    else if (source.kind === "host") writeValues(gpu, buffer, source.data);
    return buffer;
  });
  const slotOf = (slot: number): GPUBuffer =>
    slots[slot] ??= own({ label: `intermediate values ${slot} of "${label}"`, bytes: plan.slots[slot] });
  const of = (index: number): GPUBuffer =>
    buffers[index] ??= slotOf((plan.buffers[index].source as Slot).slot);
  return { buffers, slots, owned, scalars, tables, of, createAll: () => used.forEach(of) };
}

/**
 * Picks buffers of an earlier recording for another plan, and destroys the others.
 *
 * @param plan The other plan
 * @param spare The buffers
 * @returns A buffer of the right size for each slot of the plan, as far as there is one
 */
export function keepFor(plan: Plan, spare: readonly GPUBuffer[]): (GPUBuffer | undefined)[] {
  const bySize = Map.groupBy(spare, (buffer) => buffer.size);
  const kept = plan.slots.map((bytes) => bySize.get(bytes)?.pop());
  for (const buffer of [...bySize.values()].flat()) destroyBuffer(buffer);
  return kept;
}
