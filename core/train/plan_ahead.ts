/**
 * Plans the step of a frozen set that a policy announces, while the device works on steps of the set before.
 *
 * @module
 */

import type { FreezePolicy } from "../policy.ts";
import { compileAhead } from "../runtime/pipelines.ts";
import type { TensorTree } from "../tree.ts";
import { checkPaths } from "./freeze/check_paths.ts";
import { freezeChange, readSaved } from "./freeze/decisions.ts";
import { thawStepsAfter } from "./freeze/thaw.ts";
import { afterThaw } from "./state/skipped.ts";
import type { TakenStep } from "./take_look.ts";
import type { Trainer } from "./trainer.ts";
import type { TrainingState } from "./types.ts";

/**
 * Plans the step after a look, where the policy says before the look what is frozen then. A policy that then decides otherwise
 * only has that step planned when it decides.
 *
 * @param trainer The training
 * @param options The state before the step that the device works on, and that step, after which the look is
 */
export function planAhead<P extends TensorTree>(
  trainer: Trainer<P>,
  { state, taken }: { readonly state: TrainingState<P>; readonly taken: TakenStep },
): void {
  const { gpu, policy, compiler, activePaths, definition: { memory } } = trainer;
  if (policy?.coming === undefined) return;
  const { request, request: { run }, step, policyState, skipped } = taken;
  const frozen = comingOf(policy, { run, policyState });
  if (frozen === null) return;
  const change = freezeChange(state.frozen, { step, frozen, reason: () => null });
  if (change === null || activePaths(run, frozen).length === 0) return;
  // What thaws may not fit a limit of memory: that is told when it does thaw.
  if (memory !== null && change.thawed.length > 0) return;
  const since = thawStepsAfter(state.since, change);
  const probed = state.probed.filter((path) => frozen.includes(path));
  const { plan, part } = compiler.compile({
    ...request,
    frozen,
    probed,
    since,
    skipped: afterThaw(skipped, { step, since }),
  });
  const plans = part === null ? [plan] : [plan, part.plan];
  compileAhead(gpu, plans.flatMap(({ launches }) => launches.map(({ kernel }) => kernel)));
}

/** What a policy announces. */
function comingOf(
  policy: FreezePolicy,
  { run: { components, resumed }, policyState }:
    & Pick<TakenStep["request"], "run">
    & Pick<TakenStep, "policyState">,
): readonly string[] | null {
  const ask = () => policy.coming!(policyState), told = resumed ? readSaved(policy, ask) : ask();
  if (told === null) return null;
  const named = [...new Set(told)];
  checkPaths(named, { policy, from: "coming", components });
  return named;
}
