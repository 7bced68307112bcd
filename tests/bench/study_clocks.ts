/**
 * Clocks of the study: what compiling takes, and what the device draws.
 *
 * @module
 */

import type { Gpu, OnProgress } from "@firn/train";

/** Milliseconds in which something compiled, or products were measured, so far. */
export type Compiled = () => number;

/**
 * Clocks what compiles from now on: the time in which at least one kernel does, as Dawn compiles several at the same time. The
 * measuring of products counts too, as it is done once for a GPU.
 *
 * @param gpu The device
 * @returns The clock of both, and that of measuring alone, with its compiling
 */
export function compileClock(
  { device, tuning }: Pick<Gpu, "device" | "tuning">,
): { readonly compiled: Compiled; readonly tuned: () => number } {
  let busy = 0, since = 0, ms = 0;
  const begin = (): void => {
    if (busy++ === 0) since = performance.now();
  };
  const end = (): void => {
    if (--busy === 0) ms += performance.now() - since;
  };
  const clocked = <D, R>(make: (descriptor: D) => R) => (descriptor: D): R => {
    begin();
    try {
      return make(descriptor);
    } finally {
      end();
    }
  };
  const later = device.createComputePipelineAsync?.bind(device);
  device.createShaderModule = clocked(device.createShaderModule.bind(device));
  device.createComputePipeline = clocked(device.createComputePipeline.bind(device));
  if (later !== undefined) {
    device.createComputePipelineAsync = (descriptor) => {
      begin();
      return later(descriptor).finally(end);
    };
  }
  const compiling: Compiled = () => busy > 0 ? ms + performance.now() - since : ms;
  let tuned = 0, idle = 0, last = { at: 0, compiling: 0 };
  const { onProgress } = tuning;
  // From one call to the next, so that measuring that fails leaves no clock running.
  (tuning as { onProgress?: OnProgress }).onProgress = (progress) => {
    const now = { at: performance.now(), compiling: compiling() };
    if (progress.done > 0) {
      tuned += now.at - last.at;
      idle += now.at - last.at - (now.compiling - last.compiling);
    }
    last = now;
    onProgress?.(progress);
  };
  return { compiled: () => compiling() + idle, tuned: () => tuned };
}

/** What the device drew. */
export interface PowerMeter extends AsyncDisposable {
  /** Joules between two times of `performance.now()`; null where nothing tells. */
  joules(from: number, to: number): number | null;
}

/** A reading of `nvidia-smi`. */
export type PowerSample = readonly [ms: number, watts: number];

/** Milliseconds between readings. */
const EVERY = 250;

/**
 * Energy from readings of power, each of which holds until the next.
 *
 * @param samples Readings, oldest first
 * @param span From and to, ms
 * @returns Joules; null where no reading was taken up to the end
 */
export function joulesOf(
  samples: readonly PowerSample[],
  { from, to }: { readonly from: number; readonly to: number },
): number | null {
  const first = samples.findLastIndex(([at]) => at <= from);
  if (samples.length === 0 || samples[0][0] > to) return null;
  let joules = 0;
  for (let i = Math.max(0, first); i < samples.length && samples[i][0] < to; i++) {
    const begin = i === Math.max(0, first) ? from : samples[i][0];
    const end = Math.min(to, samples[i + 1]?.[0] ?? to);
    joules += samples[i][1] * Math.max(0, end - begin) / 1000;
  }
  return joules;
}

/**
 * Reads the power of an NVIDIA card as long as it is open; nothing where there is no `nvidia-smi`, or it may not run.
 *
 * @param card Its PCI address; the first when null
 * @returns The meter
 */
export function openPowerMeter(card: string | null = null): PowerMeter {
  const none: PowerMeter = { joules: () => null, [Symbol.asyncDispose]: () => Promise.resolve() };
  if (Deno.permissions.querySync({ name: "run", command: "nvidia-smi" }).state !== "granted") return none;
  const samples: PowerSample[] = [];
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command("nvidia-smi", {
      args: [
        "-i",
        card ?? "0",
        "--query-gpu=power.draw.instant",
        "--format=csv,noheader,nounits",
        "-lms",
        `${EVERY}`,
      ],
      stdout: "piped",
      stderr: "null",
    }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return none;
    throw error;
  }
  const reading = (async () => {
    for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
      const watts = part.trim().split("\n").map(Number).findLast((value) => Number.isFinite(value));
      if (watts !== undefined) samples.push([performance.now(), watts]);
    }
  })();
  return {
    joules: (from, to) => joulesOf(samples, { from, to }),
    async [Symbol.asyncDispose]() {
      child.kill();
      await reading;
      await child.status;
    },
  };
}
