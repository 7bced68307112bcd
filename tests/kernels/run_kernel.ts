/**
 * Runs one kernel on typed arrays, with nothing between the test and the device.
 *
 * @module
 */

import { type GrantedDevice, requestDevice, subgroupsOf } from "../../core/runtime/features.ts";
import { sourceOf } from "../../core/runtime/pipelines.ts";
import type { Target } from "../../core/kernel_call.ts";
import type { Kernel } from "../../kernels/kernel.ts";

/** Arrays a kernel reads. */
export type Data =
  | Float32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>;

const BLOCK_BYTES = 16;

interface Opened extends GrantedDevice {
  readonly info: GPUAdapterInfo;
}
let opened: Promise<Opened> | undefined;

/** Opens the device of the tests once, with the limits of the adapter, f16, and subgroups where it has them. */
export async function testDevice(): Promise<GPUDevice> {
  return (await (opened ??= open())).device;
}

/** What kernels may do with subgroups of the device of the tests, and the least threads that one has. */
export async function testSubgroups(): Promise<
  Required<Pick<Target, "subgroups" | "wideSubgroups">> & { readonly least: number }
> {
  const { features, info } = await (opened ??= open());
  return { ...subgroupsOf(features, info), least: info.subgroupMinSize };
}

async function open(): Promise<Opened> {
  const adapter = await navigator.gpu.requestAdapter();
  if (adapter === null) throw new Error("Cannot run kernels as an adapter must be there: none found");
  const granted = await requestDevice(adapter);
  sources.set(granted.device, granted);
  return { ...granted, info: adapter.info };
}

/** How the compiler of the device of the tests wants texts; that of another one gets them as they are. */
const sources = new WeakMap<GPUDevice, GrantedDevice>();

/** Uploads an array; the bytes up to a multiple of 16 are NaN, so that reading them shows. */
export function upload(device: GPUDevice, data: Data): GPUBuffer {
  const size = Math.max(BLOCK_BYTES, Math.ceil(data.byteLength / BLOCK_BYTES) * BLOCK_BYTES);
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
  const buffer = device.createBuffer({ size, usage });
  const bytes = new Uint8Array(size).fill(0xff);
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  device.queue.writeBuffer(buffer, 0, bytes);
  return buffer;
}

/** What was compiled, by device and text: some differ in nothing but their grids. */
const compiled = new WeakMap<GPUDevice, Map<string, GPUComputePipeline>>();

/** Compiles a kernel, each text once. */
export async function compile(device: GPUDevice, kernel: Kernel): Promise<GPUComputePipeline> {
  const known = compiled.get(device) ?? new Map<string, GPUComputePipeline>();
  compiled.set(device, known);
  const same = known.get(kernel.code);
  if (same !== undefined) return same;
  device.pushErrorScope("validation");
  const code = sourceOf(sources.get(device) ?? { subgroupDirective: "" }, kernel.code);
  const module = device.createShaderModule({ code, label: kernel.name });
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  const error = await device.popErrorScope();
  if (error !== null) throw new Error(`Cannot compile "${kernel.name}": ${error.message}\n${kernel.code}`);
  known.set(kernel.code, pipeline);
  return pipeline;
}

/**
 * Runs a kernel once.
 *
 * @param kernel The kernel; its layout is inferred, so that a binding it does not use is an error
 * @param bindings Inputs, and outputs as arrays that give type, length and first content; the device when it is another one
 * @returns The outputs
 */
export async function runKernel<O extends readonly Data[]>(
  kernel: Kernel,
  { inputs, outputs, device: given }: {
    readonly inputs: readonly Data[];
    readonly outputs: O;
    readonly device?: GPUDevice;
  },
): Promise<O> {
  const device = given ?? await testDevice();
  const pipeline = await compile(device, kernel);
  device.pushErrorScope("validation");
  const buffers = [...inputs, ...outputs].map((data) => upload(device, data));
  const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
  const bindGroup = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, bindGroup);
  pass.dispatchWorkgroups(...kernel.grid);
  pass.end();
  const starts: number[] = [];
  const written = buffers.slice(inputs.length);
  const size = written.reduce((at, buffer) => (starts.push(at), at + buffer.size), 0);
  const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  written.forEach((buffer, i) => encoder.copyBufferToBuffer(buffer, 0, staging, starts[i], buffer.size));
  device.queue.submit([encoder.finish()]);
  const error = await device.popErrorScope();
  if (error !== null) throw new Error(`Cannot run "${kernel.name}": ${error.message}\n${kernel.code}`);
  await staging.mapAsync(GPUMapMode.READ);
  const bytes = staging.getMappedRange().slice(0);
  staging.destroy();
  for (const buffer of buffers) buffer.destroy();
  const read = outputs.map((data, i) => {
    const part = bytes.slice(starts[i], starts[i] + data.byteLength);
    if (data instanceof Float32Array) return new Float32Array(part);
    if (data instanceof Uint16Array) return new Uint16Array(part);
    return data instanceof Int32Array ? new Int32Array(part) : new Uint32Array(part);
  });
  return read as unknown as O;
}

/** An output of f32 that is NaN until written. */
export function blank(size: number): Float32Array<ArrayBuffer> {
  return new Float32Array(size).fill(NaN);
}

/** Codes of bfloat16 as kernels read them: two in a word; what is left of the last one is NaN. */
export function packBf16(codes: Uint16Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  const even = new Uint16Array(Math.ceil(codes.length / 2) * 2).fill(0xffff);
  even.set(codes);
  return new Uint32Array(even.buffer);
}

/** Reproducible values in -1..1 from a linear congruential generator. */
export function values(size: number, seed: number): Float32Array<ArrayBuffer> {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Float32Array.from({ length: size }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

/** Throws unless every element is within `tolerance` (absolute) of what is expected; NaN equals NaN. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { tolerance, what }: { readonly tolerance: number; readonly what: string },
): void {
  if (actual.length !== expected.length) {
    throw new Error(`${what}: length ${actual.length}, not ${expected.length}`);
  }
  for (let i = 0; i < actual.length; i++) {
    const [a, e] = [actual[i], expected[i]];
    if (Number.isNaN(a) && Number.isNaN(e)) continue;
    if (!(Math.abs(a - e) <= tolerance)) throw new Error(`${what}: element ${i} is ${a}, expected ${e}`);
  }
}
