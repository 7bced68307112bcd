/**
 * The device: the only file that asks for an adapter.
 *
 * @module
 */

/// <reference types="npm:@webgpu/types@0.1.66" />
import { DeviceLostError } from "../errors.ts";
import type { FileSystem, FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import type { MatmulVariant } from "../../kernels/matmul/types.ts";
import type { Target } from "../tensor.ts";
import { requestDevice, subgroupsOf } from "./features.ts";

/** What speaks the WebGPU API: `navigator.gpu` of Deno or of a browser, or another implementation, such as Dawn's. */
export type WebGpu = Pick<GPU, "requestAdapter">;

/** An open device. Close it with `await using`: what still waits for it then throws. */
export interface Gpu extends AsyncDisposable {
  /** The WebGPU device. */
  readonly device: GPUDevice;
  /** Where the device comes from. */
  readonly source: { readonly api: WebGpu; readonly adapter: GPUAdapter };
  /** Name of the adapter, `"NVIDIA H100 80GB HBM3"`. */
  readonly name: string;
  /** True when a CPU plays the GPU (lavapipe, SwiftShader): right results, slow. */
  readonly software: boolean;
  /** What kernels may depend on. */
  readonly target: Target;
  /** Optional WebGPU features that the device has. */
  readonly features: ReadonlySet<string>;
  /** WGSL that shaders with subgroups must begin with; empty where the compiler knows subgroups without it. */
  readonly subgroupDirective: string;
  /** Counts of what was created and submitted so far. */
  readonly counts: Counts;
  /** How matrix products are chosen. */
  readonly tuning: Tuning;
  /** Compute pipelines by shader text. */
  readonly pipelines: Map<string, GPUComputePipeline>;
  /** Throws when the device is lost or closed, or reported an error since the last call. */
  check(): void;
}

/** How matrix products are chosen: by measuring them before the first step of a training, or by their sizes. */
export interface Tuning {
  /** Whether they are measured. */
  readonly enabled: boolean;
  /** File that remembers what was measured; null keeps it in this process. */
  readonly cache: { readonly path: string; readonly fileSystem: FileSystem } | null;
  /** Told how far measuring is. */
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void;
  /** What was measured to be fastest, by product. */
  readonly variants: Map<string, MatmulVariant>;
}

/** Options of {@link openGpu}. */
export interface GpuOptions extends FileSystemOptions {
  /** What the device is asked of: `"auto"`, as when absent, is `navigator.gpu`; or any object that speaks WebGPU. */
  readonly gpu?: "auto" | WebGpu;
  /**
   * Whether matrix products are measured before the first step of a training, which takes seconds; GPUs with timestamps
   * do and software adapters do not when absent. Another choice gives the same numbers up to rounding.
   */
  readonly tune?: boolean;
  /** File that remembers for each adapter what was measured; when absent only this process does. */
  readonly tuneCache?: string;
  /** Told how far measuring is; it ends when `done` is `total`. */
  readonly onTune?: Tuning["onProgress"];
}

/** What was asked of a device. */
export interface Counts {
  /** Buffers created. */
  buffers: number;
  /** Bind groups created. */
  bindGroups: number;
  /** Pipelines compiled. */
  pipelines: number;
  /** Submissions. */
  submits: number;
  /** Bytes of storage and staging buffers that were not destroyed yet; those left to garbage collection still count. */
  bytes: number;
  /** The largest that `bytes` has been. */
  peakBytes: number;
}

/** More bindings than this help no kernel and make bind groups dear. */
const MOST_BINDINGS = 32;

/**
 * Opens the best adapter.
 *
 * @param options Where the device comes from, and how matrix products are chosen
 * @returns The device; `software` says whether it is a CPU
 * @throws {TypeError} When `gpu` does not speak WebGPU, or products are to be measured and the adapter has no timestamps
 * @throws {Error} When there is no adapter, with the command that installs a software one
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { openGpu } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * assert(gpu.name.length > 0);
 * ```
 */
export async function openGpu(options: GpuOptions = {}): Promise<Gpu> {
  const api = apiOf(options.gpu);
  const adapter = await api.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) {
    throw new Error(
      'Cannot open a GPU as WebGPU has no adapter: install a driver (on Debian or Ubuntu "apt-get install mesa-vulkan-drivers" gives a software one)',
    );
  }
  const { device, features, subgroupDirective } = await requestDevice(adapter);
  const name = adapter.info.description || adapter.info.device || "unnamed adapter";
  const software = adapter.info.isFallbackAdapter || /llvmpipe|swiftshader|softpipe/i.test(name);

  const { tune = !software && features.has("timestamp-query"), onTune } = options;
  if (tune && !features.has("timestamp-query")) {
    device.destroy();
    throw new TypeError(`Cannot tune as "${name}" has no timestamp-query: leave "tune" out`);
  }
  const { limits } = device;
  return {
    // A native implementation may end the process when these are collected before the device.
    source: { api, adapter },
    device,
    name,
    software,
    features,
    subgroupDirective,
    target: {
      software,
      ...subgroupsOf(features, adapter.info),
      workgroupBytes: limits.maxComputeWorkgroupStorageSize,
      maxBindings: Math.min(MOST_BINDINGS, limits.maxStorageBuffersPerShaderStage),
    },
    tuning: { enabled: tune, cache: cacheOf(options), onProgress: onTune, variants: new Map() },
    counts: { buffers: 0, bindGroups: 0, pipelines: 0, submits: 0, bytes: 0, peakBytes: 0 },
    pipelines: new Map(),
    ...watch(device, name),
  };
}

function apiOf(gpu: GpuOptions["gpu"] = "auto"): WebGpu {
  if (gpu === "auto") {
    const api: WebGpu | undefined = globalThis.navigator?.gpu;
    if (api !== undefined) return api;
    throw new Error(
      'Cannot open a GPU as this runtime must speak WebGPU: "navigator.gpu" is missing; use Deno 2.9 or later, a browser with WebGPU, or give "gpu"',
    );
  }
  if (typeof gpu?.requestAdapter === "function") return gpu;
  throw new TypeError(
    'Cannot open a GPU as "gpu" must be "auto" or speak WebGPU: it has no requestAdapter; give what navigator.gpu is in a browser',
  );
}

function cacheOf({ tuneCache: path, fileSystem }: GpuOptions): Tuning["cache"] {
  return path === undefined ? null : { path, fileSystem: fileSystem ?? hostFileSystem() };
}

/** Notes what the device reports, and closes it. */
function watch(device: GPUDevice, name: string): Pick<Gpu, "check" | typeof Symbol.asyncDispose> {
  let failure: Error | null = null;
  device.lost.then((info) => {
    if (failure instanceof DeviceLostError) return; // Closed.
    failure = new DeviceLostError(`The device "${name}" was lost: ${info.message || info.reason}`);
  });
  device.addEventListener("uncapturederror", (event) => {
    const { error } = event as GPUUncapturedErrorEvent;
    failure ??= new Error(`The device "${name}" reports: ${error.message}`);
  });
  return {
    check(): void {
      const seen = failure;
      if (!(seen instanceof DeviceLostError)) failure = null;
      if (seen !== null) throw seen;
    },
    async [Symbol.asyncDispose](): Promise<void> {
      if (!(failure instanceof DeviceLostError)) {
        failure = new DeviceLostError(
          `Cannot go on as the device "${name}" was closed: close it after the last use, or open another`,
        );
      }
      // A device that is dropped with seconds of work in its queue takes the process down.
      await device.queue.onSubmittedWorkDone();
      device.destroy();
    },
  };
}
