/**
 * Matrix units in naga's dialect: of native Deno, on the day that it grants them.
 *
 * Deno 2.9 knows the feature and refuses it ("experimental features are not enabled"), so that nothing here runs until a
 * later one grants it. It does not list which matrices the device multiplies: they are tried.
 *
 * @module
 */

/// <reference types="npm:@webgpu/types@0.1.66" />
import type { MatrixUnit } from "../../kernels/matrix_unit.ts";
import { matrixWords } from "../../kernels/matrix_words.ts";

/** The cubes of f16 operands and f32 sums that naga has words for, the one of NVIDIA and AMD first. */
const CUBES = [16, 8].map((size): MatrixUnit => ({
  ...{ m: size, n: size, k: size },
  ...{ operands: "f16", sums: "f32", dialect: "naga" },
}));

/**
 * Writes a kernel that multiplies two matrices of a unit: rows of `a` by columns of `b`, whose columns lie together.
 *
 * @param unit The unit
 * @param lanes Threads of a subgroup
 * @returns WGSL
 */
export function matrixTrial(unit: MatrixUnit, lanes: number): string {
  const words = matrixWords("naga"), stride = unit.k / 8;
  const load = (role: "left" | "right", array: string): string =>
    words.load({ role, unit, byColumns: role === "right" }, { array, offset: 0, stride });
  return `${words.header}@group(0) @binding(0) var<storage, read> a: array<vec4<f16>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f16>>;
@group(0) @binding(2) var<storage, read_write> o: array<vec4<f32>>;
@compute @workgroup_size(${lanes}) fn main() {
var c: ${words.type("sums", unit)};
let x = ${load("left", "&a")};
let y = ${load("right", "&b")};
c = ${words.multiplyAdd("x", "y", "c")};
${words.store("c", { array: "&o", offset: 0, stride: unit.n / 4 })}
}`;
}

/**
 * Finds out which matrices a device multiplies: a small product of whole numbers must be exact.
 *
 * @param device A device with `NAGA_MATRICES` and shader-f16
 * @param lanes Threads of a subgroup
 * @returns The first unit that is right; none when none is
 */
export async function nagaMatrices(device: GPUDevice, lanes: number): Promise<MatrixUnit[]> {
  for (const unit of CUBES) {
    if (await multiplies(device, unit, lanes)) return [unit];
  }
  return [];
}

async function multiplies(device: GPUDevice, unit: MatrixUnit, lanes: number): Promise<boolean> {
  const { m, n, k } = unit;
  const a = Float16Array.from({ length: m * k }, (_, i) => i * 7 % 13 - 6);
  const b = Float16Array.from({ length: n * k }, (_, i) => i * 5 % 11 - 5);
  const buffer = (size: number, usage: number): GPUBuffer =>
    device.createBuffer({ label: "matrix trial", size, usage });
  device.pushErrorScope("validation");
  const module = device.createShaderModule({
    label: "probe of matrix units",
    code: matrixTrial(unit, lanes),
  });
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  if (await device.popErrorScope() !== null) return false;
  // STORAGE and COPY_DST, STORAGE and COPY_SRC, MAP_READ and COPY_DST.
  const operands = [a, b].map((values) => buffer(values.byteLength, 0x80 | 0x8));
  const out = buffer(4 * m * n, 0x80 | 0x4), staging = buffer(4 * m * n, 0x1 | 0x8);
  try {
    [a, b].forEach((values, i) => device.queue.writeBuffer(operands[i], 0, values.buffer));
    const encoder = device.createCommandEncoder(), pass = encoder.beginComputePass();
    const entries = [...operands, out].map((buffer, binding) => ({ binding, resource: { buffer } }));
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.copyBufferToBuffer(out, 0, staging, 0, 4 * m * n);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(1);
    const seen = new Float32Array(staging.getMappedRange().slice(0));
    return seen.every((value, i) => value === dot(a, b, [Math.floor(i / n) * k, (i % n) * k, k]));
  } finally {
    for (const made of [...operands, out, staging]) made.destroy();
  }
}

function dot(a: Float16Array, b: Float16Array, [atA, atB, length]: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += a[atA + i] * b[atB + i];
  return sum;
}
