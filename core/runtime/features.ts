/**
 * Optional features and limits of a device. A feature that an adapter may hide is tried, never assumed.
 *
 * @module
 */

import type { MatrixUnit } from "../../kernels/matrix_unit.ts";
import type { Target } from "../kernel_call.ts";
import { type Sourced, turning } from "./turns.ts";

/** What Deno calls matrix units. */
export const NAGA_MATRICES = "wgpu-cooperative-matrix";

/** Features that are always requested, as an adapter may grant them without listing them. */
const OPTIONAL = ["timestamp-query", "subgroups"];
/** Features that are requested when the adapter lists them. */
const LISTED: readonly string[] = ["shader-f16", "chromium-experimental-subgroup-matrix"];
/** Limits that are raised to those of the adapter. */
const LIMITS = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxStorageBuffersPerShaderStage",
] as const;

/** A device and its features. */
export interface GrantedDevice {
  readonly device: GPUDevice;
  /** Optional features that the device has. */
  readonly features: ReadonlySet<string>;
  /** WGSL directives that shaders with subgroups begin with; empty when the compiler needs none. */
  readonly subgroupDirective: string;
}

/**
 * Requests a device with the limits of the adapter and as many optional features as it grants: all, else each one alone,
 * else none.
 *
 * @param adapter The adapter
 * @param api The implementation of WebGPU that it comes from; Deno's own when absent
 * @returns The device
 * @throws What the adapter throws when it grants no device
 */
export async function requestDevice(
  adapter: GPUAdapter,
  api: object = globalThis.navigator?.gpu,
): Promise<GrantedDevice> {
  const from = { source: { api } };
  const requiredLimits: Record<string, number> = {};
  for (const limit of LIMITS) {
    const most = adapter.limits[limit];
    // An older implementation may lack the limit.
    if (most !== undefined) requiredLimits[limit] = most;
  }
  const listed = LISTED.filter((feature) => adapter.features.has(feature as GPUFeatureName));
  let failure: unknown;
  for (const tried of [[...OPTIONAL, NAGA_MATRICES], OPTIONAL, ...OPTIONAL.map((feature) => [feature]), []]) {
    // Who lists matrix units has words of its own for them, and these are of f16.
    if (tried.includes(NAGA_MATRICES) && listed.join() !== "shader-f16") continue;
    const wanted = [...tried, ...listed];
    try {
      const requiredFeatures = wanted as GPUFeatureName[];
      const device = await turning(from, adapter.requestDevice({ requiredLimits, requiredFeatures }));
      return await withSubgroups(device, { features: wanted, from });
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

/** WebGPU requires the directive. Deno's compiler rejects it and accepts the functions without it. */
const DIRECTIVES = ["", "enable subgroups;\ndiagnostic(off, subgroup_uniformity);\n"];

async function withSubgroups(
  device: GPUDevice,
  { features, from }: { readonly features: readonly string[]; readonly from: Sourced },
): Promise<GrantedDevice> {
  if (features.includes("subgroups")) {
    for (const subgroupDirective of DIRECTIVES) {
      if (await turning(from, compiles(device, subgroupDirective))) {
        return { device, features: new Set(features), subgroupDirective };
      }
    }
  }
  const others = features.filter((feature) => feature !== "subgroups");
  return { device, features: new Set(others), subgroupDirective: "" };
}

async function compiles(device: GPUDevice, directive: string): Promise<boolean> {
  const body = "@compute @workgroup_size(32) fn main() { _ = subgroupBroadcast(1.0, 0u); }";
  device.pushErrorScope("validation");
  device.createShaderModule({ label: "probe of subgroups", code: directive + body });
  return await device.popErrorScope() === null;
}

/** What an adapter says about its subgroups. */
interface Subgroups {
  readonly subgroupMinSize?: number;
  readonly subgroupMaxSize?: number;
  readonly subgroupMatrixConfigs?: Iterable<MatrixConfig>;
}

/** How kernels may use subgroups, given the features of a device and the subgroups of its adapter. */
export function subgroupsOf(
  features: { has(feature: string): boolean },
  info: Subgroups,
): Required<Pick<Target, "subgroups" | "wideSubgroups" | "subgroupSize" | "matrices">> {
  const { subgroupMinSize: least = 0, subgroupMaxSize: most } = features.has("subgroups") ? info : {};
  const subgroupSize = least === most ? least : 0;
  return {
    subgroups: least >= 8,
    wideSubgroups: least >= 16,
    subgroupSize,
    matrices: subgroupSize > 0 ? matricesOf(features, info) : [],
  };
}

/** A matrix unit as an adapter lists it. */
interface MatrixConfig {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly componentType: string;
  readonly resultComponentType: string;
}

/** The matrix units of an adapter that multiply floats, the ones with f32 sums first. */
function matricesOf(
  features: { has(feature: string): boolean },
  { subgroupMatrixConfigs = [] }: Subgroups,
): MatrixUnit[] {
  if (!features.has("chromium-experimental-subgroup-matrix")) return [];
  const floats = features.has("shader-f16") ? ["f16", "f32"] : ["f32"];
  return [...subgroupMatrixConfigs]
    .filter((c) => floats.includes(c.componentType) && floats.includes(c.resultComponentType))
    .map(({ M, N, K, componentType, resultComponentType }) => ({
      ...{ m: M, n: N, k: K },
      operands: componentType as MatrixUnit["operands"],
      sums: resultComponentType as MatrixUnit["sums"],
    }))
    .sort((a, b) => Number(b.sums === "f32") - Number(a.sums === "f32"));
}
