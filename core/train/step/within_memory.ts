/**
 * Chooses how many blocks a step computes again, so that it fits a limit of memory.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import type { Cost, Recomputed } from "../../plan/types.ts";
import { bytesOf } from "../../plan/storage.ts";
import type { Spec } from "../../spec.ts";
import type { MemoryLimit } from "../options.ts";
import type { StepMemory } from "../memory.ts";
import { activePaths, stateSpecsFor, type StepDefinition, type StepRequest } from "./definition.ts";

/** A plan of a step that computes some blocks again. */
export interface PlannedWithin {
  readonly cost: Cost;
  readonly recomputed: Recomputed;
}

/** Shares of the blocks that are tried, last to first, where all of them are too few. */
const SHARES = [0.25, 0.5, 0.75, 1];

/**
 * Plans a step with as few blocks computed again as its memory allows.
 *
 * @param limit What the training may take
 * @param options `held`: bytes that it takes besides those of a plan; `planWith`: plans with so many blocks
 * @returns The plan, and what was chosen
 * @throws {InputError} When no plan fits; the error names the smallest limit that one would fit
 */
export function withinMemory<S extends PlannedWithin>(
  { budget, reserved }: MemoryLimit,
  { held, planWith }: { readonly held: number; readonly planWith: (blocks: number) => S },
): { readonly planned: S; readonly memory: StepMemory } {
  const bytesWith = ({ cost }: S): number => reserved + held + cost.memory + cost.constants;
  const fits = (planned: S): boolean => bytesWith(planned) <= budget;
  const plain = planWith(0), { of } = plain.recomputed;
  const chosen = (planned: S): { readonly planned: S; readonly memory: StepMemory } => ({
    planned,
    memory: {
      budget,
      bytes: bytesWith(planned),
      bytesWithout: bytesWith(plain),
      blocks: planned.recomputed.blocks,
      of,
      operations: planned.cost.flops / plain.cost.flops,
    },
  });
  if (fits(plain)) return chosen(plain);

  let below = 0, best: S | undefined, least = bytesWith(plain);
  for (const share of SHARES.toReversed()) {
    const blocks = Math.ceil(share * of);
    if (blocks === 0) break;
    const planned = planWith(blocks);
    least = Math.min(least, bytesWith(planned));
    if (!fits(planned)) continue;
    best = planned;
    break;
  }
  if (best === undefined) {
    throw new InputError(
      `Cannot train in ${budget} bytes of memory as a step takes ${
        (least / 2 ** 20).toFixed(1)
      } MiB even if it computes blocks of the forward pass again: set "memory" to ${least}, use smaller batches or freeze more`,
    );
  }
  while (best.recomputed.blocks - below > 1) {
    const blocks = below + Math.floor((best.recomputed.blocks - below) / 2), planned = planWith(blocks);
    if (fits(planned)) best = planned;
    else below = blocks;
  }
  return chosen(best);
}

/**
 * Bytes that a training takes besides those of a plan: parameters, state, the batch, the weights of the best step, a copy of
 * all to go back to, and weights that the optimizer makes for a moment to evaluate and save.
 */
export function heldBytes(definition: StepDefinition, request: StepRequest): number {
  const { run, batch } = request, weights = activePaths(definition, { run, frozen: [] });
  const trained = total(weights.map((path) => run.params.get(path)!));
  const state = total(stateSpecsFor(definition, request).values()) + (definition.keepsBest ? trained : 0);
  const copies = definition.nonFinite === "rollback" ? state + trained : 0;
  const active = activePaths(definition, request).map((path) => run.params.get(path)!);
  const made = definition.optimizer.evaluated === undefined ? 0 : total(active);
  return total(run.params.values()) + state + copies + made + total(batch.values());
}

function total(specs: Iterable<Spec>): number {
  return [...specs].reduce((n, spec) => n + bytesOf(spec), 0);
}
