/**
 * Turns of the event loop while the device works.
 *
 * @module
 */

import { denoVersion } from "../host/runtime_version.ts";

/** What comes from an implementation of WebGPU. */
export interface Sourced {
  /** That implementation. */
  readonly source: { readonly api: object };
}

/** Whether an implementation of WebGPU is Deno's own. */
export function isDenos({ source }: Sourced): boolean {
  return denoVersion() !== null && source.api === globalThis.navigator?.gpu;
}

/** Lets timers, signals and errors of the device be handled. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => resolve(port1.close());
    port2.postMessage(null);
  });
}

/** The event loop that turns for an implementation. */
interface Turning {
  /** How many wait. */
  waits: number;
  /** Whether it turns. It does until the message after the last of them. */
  turns: boolean;
}

const loops = new WeakMap<object, Turning>();

/**
 * Awaits something that the device promised. An addon, as Dawn's, sees what the device has done in turns of the event loop;
 * that of Deno 2.9 leaves such an addon without a turn for seconds at times, so the loop is kept turning. Messages of a channel do
 * that; beside immediates or timers it may sleep all the same. One channel for all that wait: beside new ones for each turn the
 * addon and other threads are heard later: `tests/bench/RESULTS.md` has the times.
 *
 * @param from The device
 * @param promise What it promised
 * @returns What the promise gives
 */
export async function turning<T>(from: Sourced, promise: Promise<T>): Promise<T> {
  if (denoVersion() === null || isDenos(from)) return await promise;
  const { api } = from.source, loop = loops.get(api) ?? { waits: 0, turns: false };
  loops.set(api, loop);
  loop.waits++;
  if (!loop.turns) turnFor(loop);
  try {
    return await promise;
  } finally {
    loop.waits--;
  }
}

/** Keeps the event loop turning while something waits. */
async function turnFor(loop: Turning): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  let heard = (): void => {};
  port1.onmessage = () => heard();
  loop.turns = true;
  while (loop.waits > 0) {
    await new Promise<void>((resolve) => {
      heard = resolve;
      port2.postMessage(null);
    });
  }
  loop.turns = false;
  port1.close();
}
