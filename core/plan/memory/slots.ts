/**
 * Static memory planning: values that are never alive at the same time share a buffer.
 *
 * @module
 */

/** A value's size and the launches between which it must exist. */
export interface Lifetime {
  readonly bytes: number;
  /** Launch that writes it. */
  readonly first: number;
  /** Last launch that reads it. */
  readonly last: number;
}

/** The buffer of each value, and the sizes of the buffers. */
export interface MemoryPlan {
  /** Buffer number of each value, in the order given. */
  readonly slots: readonly number[];
  /** Bytes of each buffer. */
  readonly sizes: readonly number[];
}

/**
 * Shares buffers among values, largest first.
 *
 * Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", arXiv 2001.03288,
 * "greedy by size for shared objects".
 *
 * @param values Sizes and lifetimes
 * @returns The assignment; no two values in one buffer overlap in time
 */
export function planMemory(values: readonly Lifetime[]): MemoryPlan {
  const order = values.map((_, i) => i).sort((a, b) =>
    values[b].bytes - values[a].bytes || values[a].first - values[b].first || a - b
  );
  const slots: number[] = new Array(values.length), sizes: number[] = [], users: Lifetime[][] = [];
  for (const i of order) {
    const value = values[i];
    let slot = users.findIndex((others) => others.every((o) => o.last < value.first || value.last < o.first));
    if (slot < 0) {
      slot = sizes.length;
      sizes.push(value.bytes);
      users.push([]);
    }
    users[slot].push(value);
    slots[i] = slot;
  }
  return { slots, sizes };
}
