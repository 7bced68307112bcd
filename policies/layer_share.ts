import { InputError } from "../core/errors.ts";
import { shareOf } from "./share_of.ts";

/**
 * Checks a share of the layers.
 *
 * @param share The share
 * @param policy The name of the policy that takes it
 * @throws {InputError} When it is not above 0 and at most 1
 */
export function checkLayerShare(share: number, policy: string): void {
  if (share > 0 && share <= 1) return;
  throw new InputError(
    `Cannot choose layers for "${policy}" as "share" must be above 0 and at most 1: got ${share}`,
  );
}

/**
 * The number of layers that a share is, rounded.
 *
 * @param share Of the layers
 * @param options How many there are, and the name of the policy that asks
 * @returns The number, at least 1
 * @throws {InputError} When it is none
 */
export function layersOf(
  share: number,
  { count, policy }: { readonly count: number; readonly policy: string },
): number {
  const chosen = Math.round(shareOf(share, count));
  if (chosen > 0) return chosen;
  throw new InputError(
    `Cannot choose layers for "${policy}" as "share" must be one layer at least: ${share} of ${count} is none`,
  );
}
