/**
 * Times kernels on a device that never rests.
 *
 * The clock rate of a GPU rises under load and falls when it is idle: an H200 goes from 1980 MHz to 345 MHz, and takes up to a
 * second to come back. A measurement that begins after a rest of some ten milliseconds may be slower by a factor of five.
 *
 * @module
 */

import type { Gpu } from "../runtime/device.ts";
import { submit } from "../runtime/pipelines.ts";
import { dispatchRepeated, type TimedPass, timePasses } from "../runtime/timestamps.ts";

/** Milliseconds of work that the device has while times are read and the next launches, often thousands, are encoded. */
const BUSY_MS = 40;
/** The clock rate has risen after so many milliseconds of work. At the lowest rate times are steady, too. */
const RISE_MS = 1000;
/** And when so many milliseconds of work are as fast as before, up to a share. */
const STEADY_MS = 150, STEADY = 0.02;
/** The number of launches is limited, so work may be short: after so many tries the rate has risen, or will not. */
const MOST_TRIES = 30;

/**
 * Times passes, as `timePasses` does, with work behind them.
 *
 * @param gpu The device; needs the feature `timestamp-query`
 * @param options The passes, and the work that follows them: none when null
 * @returns Milliseconds of one repetition of each
 * @throws {InputError} When there are too many
 */
export async function timeBusily(
  gpu: Gpu,
  { passes, load }: { readonly passes: readonly TimedPass[]; readonly load: TimedPass | null },
): Promise<number[]> {
  // Submits before it waits.
  const times = timePasses(gpu, passes);
  if (load !== null) {
    submit(gpu, (encoder) => {
      const pass = encoder.beginComputePass();
      dispatchRepeated(pass, load);
      pass.end();
    });
  }
  return await times;
}

/**
 * Keeps the device busy until its clock rate has risen.
 *
 * @param gpu The device; needs the feature `timestamp-query`
 * @param pass Work that takes long for few launches
 * @returns The same work, repeated as often as keeps the device busy between two measurements
 */
export async function warmUp(gpu: Gpu, pass: TimedPass): Promise<TimedPass> {
  let [last] = await timePasses(gpu, [pass]);
  for (let done = 0, tries = 0; tries < MOST_TRIES; tries++) {
    const times = timesFor(STEADY_MS, last), load = { ...pass, times: timesFor(BUSY_MS, last) };
    const [ms] = await timeBusily(gpu, { passes: [{ ...pass, times }], load });
    done += ms * times;
    if (done > RISE_MS && Math.abs(ms - last) < STEADY * ms) return { ...pass, times: timesFor(BUSY_MS, ms) };
    last = ms;
  }
  return { ...pass, times: timesFor(BUSY_MS, last) };
}

/** How often work is repeated to take so many milliseconds, given those of one repetition. */
export function timesFor(wanted: number, once: number): number {
  return Math.min(2000, Math.max(1, Math.round(wanted / Math.max(once, 1e-3))));
}
