/**
 * A device of Dawn with matrix units: on this machine's GPU, or on a software driver that has them (Mesa 26).
 *
 * @module
 */

import { loadDawn } from "../../core/host/load_dawn.ts";
import { dawnGpu } from "../../core/runtime/dawn.ts";
import { requestDevice, subgroupsOf } from "../../core/runtime/features.ts";
import type { MatrixUnit } from "../../kernels/matrix_unit.ts";

/** A device, and what its matrix units of f16 operands and f32 sums are. */
export interface MatrixDevice {
  readonly device: GPUDevice;
  readonly unit: MatrixUnit;
  /** Threads of a subgroup. */
  readonly lanes: number;
}

/** Once collected, what Dawn made takes the process down. */
const kept: unknown[] = [];

/** Whether tests may load Dawn. */
async function mayLoad(): Promise<boolean> {
  return (await Deno.permissions.query({ name: "ffi" })).state === "granted";
}

/**
 * Opens the device.
 *
 * @returns The device, or why there is none
 */
export async function matrixDevice(): Promise<MatrixDevice | string> {
  if (!await mayLoad()) return "tests may not load Dawn without --allow-ffi";
  const gpu = await dawnGpu({ unsafe: false });
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) return "Dawn runs on no driver of this machine";
  const { device } = await requestDevice(adapter, gpu);
  kept.push(gpu, adapter, device);
  const { matrices, subgroupSize } = subgroupsOf(device.features, adapter.info);
  const unit = matrices.find(({ operands, sums }) => operands === "f16" && sums === "f32");
  return unit === undefined
    ? `${adapter.info.description} has no matrix units of f16 operands and f32 sums`
    : { device, unit, lanes: subgroupSize };
}

/**
 * Opens a device of Dawn that only checks texts, on any machine.
 *
 * @returns A function that gives the errors of a text, or why there is none
 */
export async function textChecker(): Promise<((code: string) => Promise<readonly string[]>) | string> {
  if (!await mayLoad()) return "tests may not load Dawn without --allow-ffi";
  const { create } = await loadDawn();
  const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]) as GPU;
  const adapter = (await gpu.requestAdapter())!, { device } = await requestDevice(adapter, gpu);
  kept.push(gpu, adapter, device);
  return async (code) => {
    device.pushErrorScope("validation");
    const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
    await device.popErrorScope();
    return messages.filter(({ type }) => type === "error").map((m) => `line ${m.lineNum}: ${m.message}`);
  };
}
