/**
 * Kernels on a device: compile, bind, dispatch, submit.
 *
 * @module
 */

import type { KernelText } from "../kernel_call.ts";
import type { Gpu } from "./device.ts";
import { isDenos, turning } from "./turns.ts";

/**
 * The pipeline of a kernel. Each shader text is compiled once.
 *
 * @param gpu The device
 * @param kernel Name and WGSL
 * @returns The pipeline; its bind group layout has all declared buffers, used or not
 */
function pipelineFor(
  gpu: Gpu,
  kernel: { readonly name: string; readonly code: string },
): GPUComputePipeline {
  const known = gpu.pipelines.get(kernel.code);
  if (known !== undefined) return known;
  gpu.counts.pipelines++;
  const pipeline = gpu.device.createComputePipeline(descriptorOf(gpu, kernel));
  gpu.pipelines.set(kernel.code, pipeline);
  return pipeline;
}

/**
 * Compiles all kernels of a plan that are new at the same time, where the implementation can: Dawn does it in threads, and
 * Deno's own one after the other, as they are bound. So do software drivers, which need the core that waiting would take.
 *
 * @param gpu The device
 * @param kernels Names and WGSL
 */
export async function compileAll(gpu: Gpu, kernels: readonly KernelText[]): Promise<void> {
  await turning(gpu, Promise.all(begun(gpu, kernels)));
}

/**
 * Begins to compile the kernels of a plan, where that takes no time of the thread that takes steps: {@link compileAll} awaits it.
 *
 * @param gpu The device
 * @param kernels Names and WGSL
 */
export function compileAhead(gpu: Gpu, kernels: readonly KernelText[]): void {
  begun(gpu, kernels);
}

/** Kernels that are being compiled, by device and text. */
const compiling = new WeakMap<Gpu, Map<string, Promise<void>>>();

/** What to wait for until all kernels are compiled. */
function begun(gpu: Gpu, kernels: readonly KernelText[]): Promise<void>[] {
  if (isDenos(gpu) || gpu.software) return [];
  const open = compiling.get(gpu) ?? new Map<string, Promise<void>>();
  compiling.set(gpu, open);
  const all = new Map(kernels.map((kernel) => [kernel.code, kernel]));
  return [...all].flatMap(([code, kernel]) => {
    if (gpu.pipelines.has(code)) return [];
    if (!open.has(code)) open.set(code, compile(gpu, kernel).finally(() => open.delete(code)));
    return [open.get(code)!];
  });
}

async function compile(gpu: Gpu, kernel: KernelText): Promise<void> {
  try {
    const pipeline = await gpu.device.createComputePipelineAsync(descriptorOf(gpu, kernel));
    gpu.counts.pipelines++;
    gpu.pipelines.set(kernel.code, pipeline);
  } catch {
    // It is compiled again as it is bound, and the device then reports what is wrong with it.
  }
}

function descriptorOf(
  gpu: Gpu,
  kernel: { readonly name: string; readonly code: string },
): GPUComputePipelineDescriptor {
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
  return {
    label: kernel.name,
    layout: gpu.device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: {
      module: gpu.device.createShaderModule({ label: kernel.name, code: sourceOf(gpu, kernel.code) }),
      entryPoint: "main",
    },
  };
}

/** The text of a kernel as the compiler of a device wants it. */
export function sourceOf({ subgroupDirective }: Pick<Gpu, "subgroupDirective">, code: string): string {
  return /\bsubgroup[A-Z]/.test(code) ? subgroupDirective + code : code;
}

/** A kernel with its buffers. */
export interface BoundKernel {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly grid: readonly [number, number, number];
}

/**
 * Binds a kernel to its buffers. A new kernel is compiled.
 *
 * @param gpu The device
 * @param kernel The kernel
 * @param resources Its buffers, inputs first
 * @returns The kernel, ready to be dispatched
 */
export function bindKernel(
  gpu: Gpu,
  kernel: KernelText,
  resources: readonly GPUBufferBinding[],
): BoundKernel {
  const pipeline = pipelineFor(gpu, kernel);
  gpu.counts.bindGroups++;
  const group = gpu.device.createBindGroup({
    label: kernel.name,
    layout: layoutOf(pipeline),
    entries: resources.map((resource, binding) => ({ binding, resource })),
  });
  return { pipeline, group, grid: kernel.grid };
}

/** Asking a pipeline of an addon for its layout makes an object each time. */
const layouts = new WeakMap<GPUComputePipeline, GPUBindGroupLayout>();

function layoutOf(pipeline: GPUComputePipeline): GPUBindGroupLayout {
  let layout = layouts.get(pipeline);
  if (layout === undefined) layouts.set(pipeline, layout = pipeline.getBindGroupLayout(0));
  return layout;
}

/** Dispatches kernels in a pass, in order. */
export function dispatchAll(pass: GPUComputePassEncoder, kernels: readonly BoundKernel[]): void {
  let set: GPUComputePipeline | null = null;
  for (const { pipeline, group, grid } of kernels) {
    if (pipeline !== set) pass.setPipeline(pipeline);
    set = pipeline;
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
  }
}

/** Submits the commands that a function encodes. */
export function submit({ device, counts }: Gpu, encode: (encoder: GPUCommandEncoder) => void): void {
  const encoder = device.createCommandEncoder();
  encode(encoder);
  device.queue.submit([encoder.finish()]);
  counts.submits++;
}
