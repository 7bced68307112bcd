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

/**
 * Lets the addon and answers of other threads be handled, too. In Deno 2.9 neither half does alone: beside a loop of messages of
 * channels a buffer is mapped after 2 ms and another thread is heard after 2 to 4, and beside one of immediates an addon that works
 * has no turn for seconds at times. Beside both they are heard after 0.1 ms.
 */
async function pass(): Promise<void> {
  const { setImmediate } = globalThis as { readonly setImmediate?: (then: () => void) => void };
  const immediate = setImmediate && new Promise<void>((resolve) => setImmediate(resolve));
  await Promise.all([turn(), immediate]);
}

/**
 * Awaits something that the device promised. An addon, as Dawn's, sees what the device has done in turns of the event loop;
 * that of Deno 2.9 leaves such an addon without a turn for seconds at times, so the loop is kept turning.
 *
 * @param from The device
 * @param promise What it promised
 * @returns What the promise gives
 */
export async function turning<T>(from: Sourced, promise: Promise<T>): Promise<T> {
  if (denoVersion() === null || isDenos(from)) return await promise;
  let open = true;
  const close = (): void => {
    open = false;
  };
  promise.then(close, close);
  while (open) await pass();
  return await promise;
}
