/**
 * Random numbers that depend on nothing but a seed.
 *
 * @module
 */

import { threefry2x32 } from "../../kernels/random.ts";

/** Draws a whole number from 0 to below a bound. */
export type Draw = (below: number) => number;

/**
 * Makes a sequence of random numbers.
 *
 * @param seed The seed of a whole run
 * @param stream Which of its sequences
 * @returns The sequence
 */
export function drawFrom(seed: number, stream: number): Draw {
  let index = 0;
  return (below) => threefry2x32([seed, stream], [index++, 0])[0] % below;
}

/** Draws one of some things. */
export function oneOf<T>(draw: Draw, things: readonly T[]): T {
  return things[draw(things.length)];
}
