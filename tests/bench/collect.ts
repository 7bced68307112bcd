/**
 * Collects garbage between two measurements, so that none pays for what the one before it left.
 *
 * @module
 */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/**
 * Makes a function that collects all garbage now, with what ends objects of an addon. Deno 2.9.6 ends a Dawn object in a time that grows
 * with their number: 10,000 bind groups in 0.2 s, 20,000 in 0.9 s, by a device that does nothing and two cores.
 *
 * @returns The function
 */
export function collector(): () => void {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc");
}
