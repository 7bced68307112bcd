/**
 * The device: the only file that asks for an adapter.
 *
 * @module
 */

/// <reference types="npm:@webgpu/types@0.1.66" />
import { DeviceLostError, InputError, NotFoundError } from "../errors.ts";
import type { FileSystem, FileSystemOptions } from "../host/file_system.ts";
import { nodeProcess } from "../host/node.ts";
import type { MatmulVariant } from "../../kernels/matmul/types.ts";
import type { Target } from "../kernel_call.ts";
import { dawnGpu, dawnName, keepAlive } from "./dawn.ts";
import { NAGA_MATRICES, requestDevice, subgroupsOf } from "./features.ts";
import { allHaveLeft } from "./shared_memory.ts";
import { turning } from "./turns.ts";

/** An implementation of WebGPU: `navigator.gpu` of Deno or of a browser, or another one, such as Dawn's. */
export type WebGpu = Pick<GPU, "requestAdapter">;

/** An open device. Close it with `await using`; calls that still wait for it then throw. */
export interface Gpu extends AsyncDisposable {
  /** The WebGPU device. */
  readonly device: GPUDevice;
  /** Where the device comes from, and whether a mapped range is memory of the driver, at its address, as Dawn's is; others may copy. */
  readonly source: { readonly api: WebGpu; readonly adapter: GPUAdapter; readonly inPlace: boolean };
  /** Name of the adapter, `"NVIDIA H100 80GB HBM3"`; of Dawn `"NVIDIA H200 (dawn)"`, without its checks `"NVIDIA H200 (dawn, unsafe)"`. */
  readonly name: string;
  /** Whether the device is a CPU (lavapipe, SwiftShader): correct results, slow. */
  readonly software: boolean;
  /** Properties of the device that kernels may depend on. */
  readonly target: Target;
  /** Optional WebGPU features that the device has. */
  readonly features: ReadonlySet<string>;
  /** WGSL directives that shaders with subgroups begin with; empty when the compiler needs none. */
  readonly subgroupDirective: string;
  /** Counts of objects created and work submitted so far. */
  readonly counts: Counts;
  /** How matrix products are chosen. */
  readonly tuning: Tuning;
  /** Compute pipelines by shader text. */
  readonly pipelines: Map<string, GPUComputePipeline>;
  /** Throws when the device is lost or closed, or has reported an error since the last call. */
  check(): void;
}

/** Called with how far work is. */
export type OnProgress = (progress: { readonly done: number; readonly total: number }) => void;

/** How matrix products are chosen: by measuring them before the first step of a training, or by their sizes. */
export interface Tuning {
  /** Whether products are measured. */
  readonly enabled: boolean;
  /** File that keeps the measurements; null keeps them in this process only. */
  readonly cache: { readonly path: string; readonly fileSystem: FileSystem } | null;
  /** Called with the progress of measuring. */
  readonly onProgress?: OnProgress;
  /** The fastest variant of each product measured so far. */
  readonly variants: Map<string, MatmulVariant>;
}

/** Options of {@link openGpu}. */
export interface GpuOptions extends FileSystemOptions {
  /**
   * Implementation of WebGPU to use. `"deno"`, and `"auto"`, the default, are `navigator.gpu`. `"dawn"` is Google's, which is
   * loaded from npm and has matrix units: in Deno it needs `--allow-ffi`. Node has no `navigator.gpu`, so that `"auto"` is
   * `"dawn"` there.
   */
  readonly gpu?: "auto" | "deno" | "dawn" | WebGpu;
  /**
   * Whether Dawn's checks are dropped, of indices in kernels among them; false by default. A wrong kernel may then read or
   * overwrite other memory of the process on the GPU, or end it.
   */
  readonly unsafe?: boolean;
  /**
   * The GPU to open on a machine with several, by its PCI address, such as `"0000:00:07.0"`; on Linux only. A process cannot choose
   * once it runs: NVIDIA's driver takes the first that it sees, Mesa's what `DRI_PRIME` says at the start. What starts the process
   * chooses, as `./firn COMMAND --device ADDRESS` does, and this option checks that it did.
   */
  readonly device?: string;
  /**
   * Whether matrix products are measured before the first step of a training, which takes seconds. By default GPUs with
   * timestamps measure and software adapters do not. Results are the same up to rounding.
   */
  readonly tune?: boolean;
  /**
   * File that keeps the measurements of each adapter; when absent they are kept in this process only. A program that a bundler made
   * gives `fileSystem` with it.
   */
  readonly tuneCache?: string;
  /** Called with the progress of measuring, which ends when `done` is `total`. */
  readonly onTune?: Tuning["onProgress"];
}

/** Counts of objects created and work submitted. */
export interface Counts {
  /** Buffers created. */
  buffers: number;
  /** Bind groups created. */
  bindGroups: number;
  /** Pipelines compiled. */
  pipelines: number;
  /** Submissions. */
  submits: number;
  /** Bytes of storage and staging buffers that are not destroyed. Buffers left to garbage collection count too. */
  bytes: number;
  /** Highest value of `bytes` so far. */
  peakBytes: number;
  /** Bytes of buffers in memory of the host that are not destroyed: copies of states that become checkpoints. */
  hostBytes: number;
}

/** More bindings help no kernel and make bind groups slow to create. */
const MOST_BINDINGS = 32;

/**
 * Opens the best adapter.
 *
 * @param options Where the device comes from, and how matrix products are chosen
 * @returns The device; `software` says whether it is a CPU
 * @throws {InputError} When `gpu` does not speak WebGPU, Deno may not load Dawn, `tune` is set and the adapter has no timestamps, or
 * this process was not started so that it takes `device`
 * @throws {NotFoundError} When there is no adapter, no GPU at `device`, or Dawn is not at hand, with what helps
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
export async function openGpu({ gpu = "auto", ...rest }: GpuOptions = {}): Promise<Gpu> {
  const options = { ...rest, gpu: gpu === "auto" && isNodeAlone() ? "dawn" : gpu } as const;
  const check = rest.device === undefined ? null : await choiceOf(rest.device), cache = await cacheOf(rest);
  const api = await apiOf(options), dawn = options.gpu === "dawn";
  const wanted = { powerPreference: "high-performance" } as const;
  const adapter = await turning({ source: { api } }, api.requestAdapter(wanted));
  if (adapter === null) {
    throw new NotFoundError(
      `Cannot open a GPU as ${dawn ? "Dawn" : "WebGPU"} has no adapter: install a driver ${
        dawn
          ? 'of Vulkan 1.3 or later, Metal or Direct3D 12, or take "deno", which runs on older ones'
          : '(on Debian or Ubuntu "apt-get install mesa-vulkan-drivers" gives a software one)'
      }`,
    );
  }
  check?.(adapter.info);
  const { device, features, subgroupDirective } = await requestDevice(adapter, api);
  const { info } = adapter;
  const name = nameOf(info, options), software = info.isFallbackAdapter || SOFTWARE.test(name);

  const { tune = !software && features.has("timestamp-query"), onTune } = options;
  if (tune && !features.has("timestamp-query")) {
    device.destroy();
    throw new InputError(`Cannot tune as "${name}" has no timestamp-query: leave "tune" out`);
  }
  const { limits } = device, subgroups = subgroupsOf(features, info);
  const naga = features.has(NAGA_MATRICES) && subgroups.subgroupSize > 0;
  return {
    source: { api, adapter, inPlace: dawn },
    device,
    name,
    software,
    features,
    subgroupDirective,
    target: {
      software,
      ...subgroups,
      ...await matricesOf(device, { naga, subgroups }),
      workgroupBytes: limits.maxComputeWorkgroupStorageSize,
      maxBindings: Math.min(MOST_BINDINGS, limits.maxStorageBuffersPerShaderStage),
      maxBindingBytes: Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize),
      bindingAlignment: limits.minStorageBufferOffsetAlignment,
    },
    tuning: { enabled: tune, cache, onProgress: onTune, variants: new Map() },
    counts: { buffers: 0, bindGroups: 0, pipelines: 0, submits: 0, bytes: 0, peakBytes: 0, hostBytes: 0 },
    pipelines: new Map(),
    ...watch(device, { api, name, release: dawn ? keepAlive([api, adapter, device]) : () => {} }),
  };
}

/** The matrix units of a device, and what computes products on them, which is loaded where there are some. */
async function matricesOf(
  device: GPUDevice,
  { naga, subgroups: { matrices, subgroupSize } }: {
    readonly naga: boolean;
    readonly subgroups: ReturnType<typeof subgroupsOf>;
  },
): Promise<Pick<Target, "matrices" | "units">> {
  const own = naga ? await (await import("./naga_matrices.ts")).nagaMatrices(device, subgroupSize) : matrices;
  if (own.length === 0) return { matrices: own };
  const { matrixProducts: units } = await import("../../kernels/matmul/matrix_products.ts");
  return { matrices: own, units };
}

/** Named so that no bundler puts them into a page, which has neither a choice of GPUs nor files. */
const CHOICE = "./chosen_gpu.ts", FILES = "../host/host_file_system.ts";

/** What checks that an adapter is the GPU at an address. */
async function choiceOf(device: string): Promise<(info: GPUAdapterInfo) => void> {
  const { chosenGpu }: typeof import("./chosen_gpu.ts") = await import(CHOICE).catch((error: Error) => {
    throw new InputError(
      `Cannot open a GPU by its address as only Deno and Node, without a bundler, choose one: ${error.message}; leave "device" out`,
    );
  });
  return await chosenGpu(device);
}

/** Names of adapters that are a CPU. */
const SOFTWARE = /llvmpipe|swiftshader|softpipe/i;

function nameOf(info: GPUAdapterInfo, { gpu, unsafe }: GpuOptions): string {
  if (gpu === "dawn") return `${dawnName(info)} (dawn${unsafe ? ", unsafe" : ""})`;
  // A browser may tell no more than `"nvidia ampere"`.
  const { vendor, architecture, description, device } = info;
  return description || device || [vendor, architecture].filter((part) => part !== "").join(" ") ||
    "unnamed adapter";
}

/** Whether this is Node, without an implementation of WebGPU that a program put into its place. */
const isNodeAlone = (): boolean => nodeProcess() !== null && globalThis.navigator?.gpu === undefined;

async function apiOf({ gpu = "auto", unsafe = false }: GpuOptions): Promise<WebGpu> {
  if (unsafe && gpu !== "dawn") {
    throw new InputError(
      'Cannot open a GPU as only Dawn can drop its checks: take "unsafe" with gpu: "dawn"',
    );
  }
  if (gpu === "dawn") return await dawnGpu({ unsafe });
  if (gpu === "auto" || gpu === "deno") {
    const api: WebGpu | undefined = globalThis.navigator?.gpu;
    if (api !== undefined) return api;
    throw new NotFoundError(
      'Cannot open a GPU as this runtime must speak WebGPU: "navigator.gpu" is missing; use Deno 2.9 or later, a browser with WebGPU, or give "gpu"',
    );
  }
  if (typeof gpu?.requestAdapter === "function") return gpu;
  throw new InputError(
    'Cannot open a GPU as "gpu" must be "auto", "deno" or "dawn", or speak WebGPU: it has no requestAdapter; give what navigator.gpu is in a browser',
  );
}

/** Where measurements are kept. */
async function cacheOf({ tuneCache: path, fileSystem }: GpuOptions): Promise<Tuning["cache"]> {
  if (path === undefined) return null;
  if (fileSystem !== undefined) return { path, fileSystem };
  const { hostFileSystem }: typeof import("../host/host_file_system.ts") = await import(FILES).catch(
    (error: Error) => {
      throw new InputError(
        `Cannot keep measured products in "${path}" as a program that is bundled must give "fileSystem": ${error.message}; give hostFileSystem() of "@firn/train/data"`,
      );
    },
  );
  return { path, fileSystem: hostFileSystem() };
}

/** Keeps the first error that the device reports, and closes the device. */
function watch(
  device: GPUDevice,
  { api, name, release }: { readonly api: WebGpu; readonly name: string; readonly release: () => void },
): Pick<Gpu, "check" | typeof Symbol.asyncDispose> {
  let failure: Error | null = null;
  device.lost.then((info) => {
    if (failure instanceof DeviceLostError) return; // Closed.
    failure = new DeviceLostError(`The device "${name}" was lost: ${info.message || info.reason}`);
  });
  device.addEventListener("uncapturederror", (event) => {
    // It is thrown, not printed.
    event.preventDefault();
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
          { closed: true },
        );
      }
      // Destroying a device with seconds of queued work ends the process.
      await turning(
        { source: { api } },
        Promise.all([device.queue.onSubmittedWorkDone(), allHaveLeft(device)]),
      );
      device.destroy();
      release();
    },
  };
}
