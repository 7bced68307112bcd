/**
 * Steps of a run that updated nothing: the type.
 *
 * @module
 */

/** Steps that updated nothing: their batch had no labels, or a loss or a gradient was not finite. JSON. */
export type SkippedSteps = {
  /** All that are known. */
  readonly skipped: number;
  /** Those of them that were left out as something was not finite. */
  readonly judged: number;
  /** The last step of which it is known whether it was. */
  readonly until: number;
  /** For steps after which components thawed: how many were skipped until then, where some were. */
  readonly before: { readonly [step: string]: number };
};
