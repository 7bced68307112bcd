/**
 * A cosine that starts again.
 *
 * @module
 */

import { checkRange, refuse } from "../arguments.ts";
import { decay, type DecayOptions, type Schedule } from "./schedules.ts";

/** Options of {@link cosineRestarts}. */
export interface CosineRestartsOptions extends DecayOptions {
  /** How often the rate falls from the peak. */
  readonly cycles: number;
}

/**
 * Falls along half a cosine to `floor`, several times: each time it starts again at the peak.
 *
 * Source: Loshchilov and Hutter, "SGDR", arXiv 1608.03983, equation 5, with cycles of one length.
 *
 * @param options Rate, warm-up, length and cycles
 * @returns The schedule
 * @throws {InputError} When a number is out of its range
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { cosineRestarts } from "@firn/train/optim";
 *
 * const rate = cosineRestarts({ peak: 1, steps: 100, cycles: 2 });
 * assertAlmostEquals(rate(25), 0.5);
 * assertAlmostEquals(rate(50), 1);
 * assertAlmostEquals(rate(75), 0.5);
 * assertAlmostEquals(rate(100), 0);
 * ```
 */
export function cosineRestarts({ cycles, ...options }: CosineRestartsOptions): Schedule {
  checkRange("cosineRestarts", { cycles }, { least: 1 });
  if (!Number.isInteger(cycles)) refuse("cosineRestarts", '"cycles" must be a whole number', cycles);
  return decay(options, {
    name: "cosineRestarts",
    share: (progress) => progress === 1 ? 0 : 0.5 * (1 + Math.cos(Math.PI * (cycles * progress % 1))),
    more: `, cycles ${cycles}`,
  });
}
