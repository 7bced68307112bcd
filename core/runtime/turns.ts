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
  while (open) await turn();
  return await promise;
}
