/**
 * Which parameters decay.
 *
 * @module
 */

import { refuse } from "../arguments.ts";

/** Weight decay of some parameters. */
export interface WeightDecayOptions {
  /** Factor of the weights by which they shrink; each optimizer says how, and what it is when absent. */
  readonly weightDecay?: number;
  /**
   * What decays; `all` when absent, as in PyTorch. `matrices` leaves out what has one axis or none: norms and biases, as trainers
   * do.
   */
  readonly decayed?: "all" | "matrices";
}

/** Whether a parameter decays. */
export type Decays = (parameter: { readonly shape: readonly number[] }) => boolean;

/**
 * Makes a test of parameters.
 *
 * @param op The optimizer
 * @param options What decays, and its factor
 * @returns The test, and how the name of an optimizer prints it
 * @throws {InputError} When there is no such choice
 */
export function decaysOf(
  op: string,
  { weightDecay = 0, decayed = "all" }: WeightDecayOptions,
): { readonly decays: Decays; readonly printed: string } {
  if (decayed !== "all" && decayed !== "matrices") {
    refuse(op, '"decayed" must be "all" or "matrices"', decayed);
  }
  return {
    decays: ({ shape }) => weightDecay !== 0 && (decayed === "all" || shape.length > 1),
    printed: decayed === "all" ? "" : ", of matrices",
  };
}
