/**
 * Finds the largest batch whose step fits the memory of a device, by planning alone.
 *
 * @module
 */

import { shown } from "../arguments.ts";
import { InputError } from "../errors.ts";
import type { Plan } from "../plan/types.ts";
import { bytesOf } from "../plan/storage.ts";
import { flatten, type TensorTree } from "../tree.ts";
import { memoryLimit } from "./options.ts";
import { newRun } from "./state/run.ts";
import { stepCompiler } from "./step/compile.ts";
import { heldBytes } from "./step/within_memory.ts";
import { type Trainer, withComponents } from "./trainer.ts";
import type { BatchChoice, LargestBatchOptions } from "./memory.ts";

/** A planned size of a batch. */
interface Tried {
  readonly size: number;
  readonly bytes: number;
  /** Bytes of the largest buffer. */
  readonly largest: number;
}

/**
 * Finds the largest batch that fits.
 *
 * @param trainer The training
 * @param options Parameters, batches by size, and the limits
 * @returns The size, and what its step takes
 * @throws {InputError} When no limit of memory is known, or none fits
 */
export function largestBatch<P extends TensorTree, B extends TensorTree>(
  trainer: Trainer<P>,
  { params, batchOf, most, memory, frozen = [] }: LargestBatchOptions<P, B>,
): BatchChoice {
  const { gpu, definition } = trainer;
  const limit = memory === undefined ? definition.memory : memoryLimit({ memory });
  if (limit === null) {
    throw new InputError(
      `Cannot choose a batch as WebGPU does not tell how much memory "${gpu.name}" has: give "memory", such as "8 GiB"`,
    );
  }
  if (!(Number.isSafeInteger(most) && most >= 1)) {
    throw new InputError(
      `Cannot choose a batch as "most" must be a whole number above 0: got ${shown(most)}`,
    );
  }
  const { budget, reserved } = limit, begun = newRun(flatten(params));
  const compilerOf = (memory: typeof limit | null) => stepCompiler(gpu, { ...definition, memory });
  const plain = compilerOf(null), tried = new Map<number, Tried>();
  const requestOf = (size: number) => {
    const batch = flatten(batchOf(size)), run = withComponents(trainer, { run: begun, batch });
    return { run, batch, frozen, probed: [], since: {}, wide: false };
  };
  const at = (size: number): Tried => {
    const known = tried.get(size);
    if (known !== undefined) return known;
    const request = requestOf(size), { cost, plan, part } = plain.compile(request);
    const bytes = reserved + heldBytes(definition, request) + cost.memory + cost.constants;
    const entries = [...request.batch.values()].map(bytesOf);
    const largest = Math.max(...entries, largestOf(plan), part === null ? 0 : largestOf(part.plan));
    const made = { size, bytes, largest };
    tried.set(size, made);
    return made;
  };
  const fits = ({ bytes, largest }: Tried): boolean =>
    bytes <= budget && largest <= gpu.device.limits.maxBufferSize;
  const best = search({ at, fits, budget, most });
  if (best !== null) {
    const { size, bytes } = best;
    return { size, memory: { budget, bytes, bytesWithout: bytes, blocks: 0, of: 0, operations: 1 } };
  }
  // One sample fits where the backward pass computes values again, or not at all, as the error says.
  return { size: 1, memory: compilerOf(limit).compile(requestOf(1)).memory! };
}

/** The largest size that fits; null when none does. Bytes grow about evenly with the size, so that few sizes are planned. */
function search(
  { at, fits, budget, most }: {
    readonly at: (size: number) => Tried;
    readonly fits: (tried: Tried) => boolean;
    readonly budget: number;
    readonly most: number;
  },
): Tried | null {
  let below = at(1), above: Tried | null = null;
  if (!fits(below)) return null;
  let before: Tried | null = null;
  while (above === null) {
    if (below.size >= most) return below;
    const guess = before === null ? 2 : estimate(before, below, budget);
    const next = at(Math.min(most, Math.max(below.size + 1, Math.min(4 * below.size, guess))));
    if (fits(next)) [before, below] = [below, next];
    else above = next;
  }
  while (above.size - below.size > 1) {
    const guess = estimate(below, above, budget), half = (below.size + above.size) >> 1;
    // What limits may be a buffer, of which the bytes of all say nothing.
    const wanted = above.bytes > budget ? guess : half;
    const next = at(Math.min(above.size - 1, Math.max(below.size + 1, wanted)));
    if (fits(next)) below = next;
    else above = next;
  }
  return below;
}

/** The size at which a line through two sizes reaches the budget. */
function estimate(a: Tried, b: Tried, budget: number): number {
  const slope = (b.bytes - a.bytes) / (b.size - a.size);
  return slope > 0 ? Math.floor(a.size + (budget - a.bytes) / slope) : 4 * b.size;
}

function largestOf({ buffers, slots }: Plan): number {
  return Math.max(...slots, ...buffers.map(({ bytes }) => bytes));
}
