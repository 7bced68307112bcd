/**
 * Steps of a run that updated nothing.
 *
 * @module
 */

import type { Ages } from "../../plan/types.ts";
import type { SkippedSteps } from "../skipped_steps.ts";
import type { ThawSteps } from "../types.ts";

/** No step was skipped. */
export const NONE_SKIPPED: SkippedSteps = { skipped: 0, judged: 0, until: 0, before: {} };

/** After a step whose batch has no labels. */
export function afterPass(now: SkippedSteps): SkippedSteps {
  return { ...now, skipped: now.skipped + 1 };
}

/** After a look that finds which steps the device left out. */
export function afterLook(
  { skipped, judged, until, before }: SkippedSteps,
  { step, leftOut }: { readonly step: number; readonly leftOut: readonly number[] },
): SkippedSteps {
  // A run that goes on with more steps looks twice at those since its last regular look.
  const fresh = leftOut.filter((s) => s > until).length;
  return { skipped: skipped + fresh, judged: judged + fresh, until: step, before };
}

/** After a look at which components thawed; forgets those that are frozen again. */
export function afterThaw(
  now: SkippedSteps,
  { step, since }: { readonly step: number; readonly since: ThawSteps },
): SkippedSteps {
  if (now.skipped === 0) return now;
  const thaws = Object.values(since).map((at) => [at, at === step ? now.skipped : now.before[at] ?? 0]);
  return { ...now, before: Object.fromEntries(thaws) };
}

/**
 * What ages follow from.
 *
 * @param thaws For each group the step after which it thawed; 0 for those that never were frozen
 * @param now Steps that updated nothing
 * @returns Updates of the run before the first one of each group, and the steps without one
 */
export function agesOf(thaws: readonly number[], { before, ...known }: SkippedSteps): Ages {
  return { ...known, starts: thaws.map((step) => step - (before[step] ?? 0)) };
}
