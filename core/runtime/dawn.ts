/**
 * Dawn as an implementation of WebGPU: its toggles, and what each of them risks.
 *
 * @module
 */

/// <reference types="npm:@webgpu/types@0.1.66" />

/** Toggles that are always enabled. */
const ENABLED = [
  // Experimental features can be asked for, subgroup matrices among them. Only what a device asks for is granted.
  "allow_unsafe_apis",
  // Grants shader-f16 on NVIDIA, where Dawn hides it as tests of conformance fail: of f16 in uniforms and of rounding.
  "vulkan_enable_f16_on_nvidia",
];

/** Toggles that are always disabled. */
const DISABLED = [
  // Rounds timestamps to 65 us, against spying pages. Products are chosen by measuring shorter times.
  "timestamp_quantization",
];

/** Toggles that drop checks. Wrong kernels then do harm, so they are enabled only on request. */
const UNSAFE = [
  // An index outside a buffer or a workgroup array reads and overwrites other memory of the process on the GPU.
  "disable_robustness",
  // Workgroup memory begins with what an earlier program left there, not with zeros.
  "disable_workgroup_init",
  // A wrong command reaches the driver, which may then end the process or lose the device, without a message.
  "skip_validation",
];

/**
 * Loads Dawn.
 *
 * @param options `unsafe`: whether its checks are dropped
 * @returns An implementation of WebGPU
 * @throws {InputError} When the runtime may not load it
 * @throws {NotFoundError} When it is not at hand, or does not run here
 */
export async function dawnGpu(
  { unsafe }: { readonly unsafe: boolean },
): Promise<Pick<GPU, "requestAdapter">> {
  const { loadDawn } = await import("../host/load_dawn.ts"), { create } = await loadDawn();
  const enabled = [...ENABLED, ...unsafe ? UNSAFE : []];
  return create([
    `enable-dawn-features=${enabled.join(",")}`,
    `disable-dawn-features=${DISABLED.join(",")}`,
  ]) as GPU;
}

/**
 * The name of an adapter of Dawn. Its description names the driver and its device the card, in lower case with dashes.
 *
 * @param info What the adapter says
 * @returns `"NVIDIA H200"` for `"nvidia-h200"`; the description of a software adapter
 */
export function dawnName(
  { description, device, isFallbackAdapter }: Pick<
    GPUAdapterInfo,
    "description" | "device" | "isFallbackAdapter"
  >,
): string {
  if (isFallbackAdapter || device === "") return description;
  return device.replaceAll("-", " ").trim().toUpperCase();
}

/**
 * Keeps objects of Dawn from being collected: collected while the process uses what they made, they end it.
 *
 * @param held The objects
 * @returns Lets go of them
 */
export function keepAlive(held: readonly object[]): () => void {
  if (typeof globalThis.addEventListener !== "function") {
    // Node's global object takes no listeners. A timer that the process does not wait for is reachable from it, too.
    const timer = setInterval(() => held, LONGEST_INTERVAL) as unknown as { unref(): void };
    timer.unref();
    return () => clearInterval(timer as unknown as number);
  }
  // What listens to the process is reachable from it.
  const listener = { held, handleEvent(): void {} };
  globalThis.addEventListener("unload", listener);
  return () => globalThis.removeEventListener("unload", listener);
}

/** Milliseconds. */
const LONGEST_INTERVAL = 2 ** 31 - 1;
