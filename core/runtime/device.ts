/**
 * The device: the only file that asks for an adapter.
 *
 * @module
 */

/// <reference types="npm:@webgpu/types@0.1.66" />
import { DeviceLostError, OutOfMemoryError } from "../errors.ts";
import type { FileSystem, FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import type { MatmulVariant } from "../../kernels/matmul/types.ts";
import type { HostData, Target } from "../tensor.ts";

/** An open device. Close it with `await using`: what still waits for it then throws. */
export interface Gpu extends AsyncDisposable {
  /** The WebGPU device. */
  readonly device: GPUDevice;
  /** Name of the adapter, `"NVIDIA H100 80GB HBM3"`. */
  readonly name: string;
  /** True when a CPU plays the GPU (lavapipe, SwiftShader): right results, slow. */
  readonly software: boolean;
  /** What kernels may depend on. */
  readonly target: Target;
  /** Optional WebGPU features that the device has. */
  readonly features: ReadonlySet<string>;
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

/** Features that are used when granted; the adapter may hide them from its list. */
const OPTIONAL = ["timestamp-query", "subgroups"];
/** Features that are used where the list has them. */
const LISTED: readonly GPUFeatureName[] = ["shader-f16"];
const LIMITS = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxStorageBuffersPerShaderStage",
] as const;
/** More bindings than this help no kernel and make bind groups dear. */
const MOST_BINDINGS = 32;

/**
 * Opens the best adapter of the machine.
 *
 * @param options How matrix products are chosen
 * @returns The device; `software` says whether it is a CPU
 * @throws {Error} When there is no adapter, with the command that installs a software one
 * @throws {TypeError} When products are to be measured and the adapter has no timestamps
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
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" }) ?? null;
  if (adapter === null) {
    throw new Error(
      'Cannot open a GPU as WebGPU has no adapter: install a driver (on Debian or Ubuntu "apt-get install mesa-vulkan-drivers" gives a software one)',
    );
  }
  const requiredLimits: Record<string, number> = {};
  for (const limit of LIMITS) requiredLimits[limit] = adapter.limits[limit];
  const { device, features } = await requestDevice(adapter, requiredLimits);
  const name = adapter.info.description || adapter.info.device || "unnamed adapter";
  const software = adapter.info.isFallbackAdapter || /llvmpipe|swiftshader|softpipe/i.test(name);

  const { tune = !software && features.has("timestamp-query"), onTune } = options;
  if (tune && !features.has("timestamp-query")) {
    device.destroy();
    throw new TypeError(`Cannot tune as "${name}" has no timestamp-query: leave "tune" out`);
  }

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
    device,
    name,
    software,
    features,
    target: {
      software,
      ...subgroupsOf(features, adapter.info),
      workgroupBytes: adapter.limits.maxComputeWorkgroupStorageSize,
      maxBindings: Math.min(MOST_BINDINGS, adapter.limits.maxStorageBuffersPerShaderStage),
    },
    tuning: { enabled: tune, cache: cacheOf(options), onProgress: onTune, variants: new Map() },
    counts: { buffers: 0, bindGroups: 0, pipelines: 0, submits: 0, bytes: 0, peakBytes: 0 },
    pipelines: new Map(),
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

function cacheOf({ tuneCache: path, fileSystem }: GpuOptions): Tuning["cache"] {
  return path === undefined ? null : { path, fileSystem: fileSystem ?? hostFileSystem() };
}

/** What kernels may do with subgroups of a device, by its features and what the adapter says of their size. */
export function subgroupsOf(
  features: { has(feature: string): boolean },
  { subgroupMinSize }: Pick<GPUAdapterInfo, "subgroupMinSize">,
): Required<Pick<Target, "subgroups" | "wideSubgroups">> {
  const atLeast = (threads: number): boolean => features.has("subgroups") && subgroupMinSize >= threads;
  return { subgroups: atLeast(8), wideSubgroups: atLeast(16) };
}

/** Asks for all optional features, then for one at a time, as hidden ones can only be tried; always for listed ones. */
async function requestDevice(
  adapter: GPUAdapter,
  requiredLimits: Record<string, number>,
): Promise<{ device: GPUDevice; features: ReadonlySet<string> }> {
  let failure: unknown;
  const listed = LISTED.filter((feature) => adapter.features.has(feature));
  for (const tried of [OPTIONAL, ...OPTIONAL.map((feature) => [feature]), []]) {
    const wanted = [...tried, ...listed];
    try {
      const device = await adapter.requestDevice({
        requiredLimits,
        requiredFeatures: wanted as GPUFeatureName[],
      });
      return { device, features: new Set(wanted) };
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

const USAGE = 0x80 | 0x4 | 0x8; // STORAGE, COPY_SRC, COPY_DST

/**
 * Creates a storage buffer.
 *
 * @param gpu The device
 * @param options Its label and size in bytes
 * @returns The buffer, zeroed
 * @throws {OutOfMemoryError} When the adapter cannot bind that much
 */
export function createBuffer(
  gpu: Gpu,
  options: { readonly label: string; readonly bytes: number },
): GPUBuffer {
  const { label, bytes } = options;
  const most = Math.min(gpu.device.limits.maxStorageBufferBindingSize, gpu.device.limits.maxBufferSize);
  if (bytes > most) {
    throw new OutOfMemoryError(
      label,
      bytes,
      `"${gpu.name}" binds ${(most / 2 ** 20).toFixed(0)} MiB at most`,
    );
  }
  gpu.device.pushErrorScope("out-of-memory");
  const buffer = allocate(gpu, { label, size: bytes, usage: USAGE });
  const refusal = gpu.device.popErrorScope().then((error) =>
    error === null ? null : new OutOfMemoryError(label, bytes, error.message)
  );
  if (pending.has(gpu)) pending.get(gpu)!.push(refusal);
  else pending.set(gpu, [refusal]);
  return buffer;
}

/** Creates a buffer that is counted until it is destroyed. */
export function allocate(gpu: Gpu, descriptor: GPUBufferDescriptor): GPUBuffer {
  const { counts } = gpu;
  const buffer = gpu.device.createBuffer(descriptor);
  counts.buffers++;
  counts.bytes += descriptor.size;
  counts.peakBytes = Math.max(counts.peakBytes, counts.bytes);
  const destroy = buffer.destroy.bind(buffer);
  let held = descriptor.size;
  buffer.destroy = (): undefined => {
    counts.bytes -= held;
    held = 0;
    destroy();
  };
  return buffer;
}

/** What became of the allocations since the last check. */
const pending = new WeakMap<Gpu, Promise<OutOfMemoryError | null>[]>();

/**
 * Waits for the allocations so far to be accepted.
 *
 * @param gpu The device
 * @throws {OutOfMemoryError} When one was refused: what it was and how large
 */
export async function checkAllocations(gpu: Gpu): Promise<void> {
  const refusals = pending.get(gpu) ?? [];
  pending.delete(gpu);
  const error = (await Promise.all(refusals)).find((e) => e !== null);
  if (error !== undefined) throw error;
  gpu.check();
}

/**
 * The pipeline of a shader, compiled once for each text.
 *
 * @param gpu The device
 * @param kernel Name and WGSL
 * @returns The pipeline; its bind group layout follows the declarations, used or not
 */
export function pipelineFor(
  gpu: Gpu,
  kernel: { readonly name: string; readonly code: string },
): GPUComputePipeline {
  const known = gpu.pipelines.get(kernel.code);
  if (known !== undefined) return known;
  gpu.counts.pipelines++;
  const access = [...kernel.code.matchAll(/@binding\(\d+\)\s+var<storage,\s*(read_write|read)>/g)].map((m) =>
    m[1]
  );
  const layout = gpu.device.createBindGroupLayout({
    entries: access.map((mode, binding) => ({
      binding,
      visibility: 4, // COMPUTE
      buffer: { type: mode === "read" ? "read-only-storage" as const : "storage" as const },
    })),
  });
  const pipeline = gpu.device.createComputePipeline({
    label: kernel.name,
    layout: gpu.device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: {
      module: gpu.device.createShaderModule({ label: kernel.name, code: kernel.code }),
      entryPoint: "main",
    },
  });
  gpu.pipelines.set(kernel.code, pipeline);
  return pipeline;
}

/** Uploads values, or codes of bf16, to the start of a buffer; whole words, the rest of the last one is zero. */
export function writeValues(gpu: Gpu, buffer: GPUBuffer, data: HostData | Uint16Array): void {
  let whole = data;
  if (data.byteLength % 4 !== 0) {
    whole = new Uint16Array(data.length + 1);
    whole.set(data);
  }
  gpu.device.queue.writeBuffer(buffer, 0, whole as Float32Array<ArrayBuffer>);
}
