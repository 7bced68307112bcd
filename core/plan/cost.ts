/**
 * What a plan costs.
 *
 * @module
 */

import type { Cost, Launch, PlannedBuffer } from "./types.ts";

/** Bytes that a plan allocates. */
export type Allocated = Pick<Cost, "memory" | "constants">;

/**
 * Adds up what launches cost.
 *
 * @param launches Launches of a step
 * @param allocated Bytes that the step's plan allocates
 * @returns The cost
 */
export function costOf(launches: readonly Launch[], { memory, constants }: Allocated): Cost {
  const total = (of: (launch: Launch) => number): number => launches.reduce((n, one) => n + of(one), 0);
  return {
    launches: launches.length,
    flops: total(({ kernel }) => kernel.flops),
    matmulFlops: total(({ matmulFlops }) => matmulFlops),
    bytes: total(({ bytes }) => bytes),
    memory,
    constants,
  };
}

/**
 * Bytes that a plan allocates.
 *
 * @param launches All launches
 * @param layout Buffers, and sizes of the shared slots
 * @returns Bytes for intermediate values, kept ones included, and for constants that a launch reads
 */
export function allocatedBytes(
  launches: readonly Launch[],
  { buffers, slots }: { readonly buffers: readonly PlannedBuffer[]; readonly slots: readonly number[] },
): Allocated {
  const used = new Set(launches.flatMap(({ bindings }) => bindings));
  let memory = slots.reduce((n, bytes) => n + bytes, 0), constants = 0;
  buffers.forEach(({ source: { kind }, bytes }, b) => {
    if (kind === "kept" || kind === "result") memory += bytes;
    if (used.has(b) && ["host", "scalars", "table"].includes(kind)) constants += bytes;
  });
  return { memory, constants };
}
