/**
 * What a device can do at most, measured: multiply-adds in registers, and a large copy.
 *
 * @module
 */

import type { Gpu } from "@firn/train";
import { bindKernel, type BoundKernel } from "../../core/runtime/pipelines.ts";
import { dispatchRepeated, timePasses } from "../../core/runtime/timestamps.ts";
import { createBuffer } from "../../core/runtime/buffers.ts";
import { foldGrid, GROUP_BUILTINS, GROUP_INDEX, type Kernel, repeat, storage } from "../../kernels/kernel.ts";
import type { MatrixUnit } from "../../kernels/matrix_unit.ts";
import { matrixWords } from "../../kernels/matrix_words.ts";
import type { Peaks } from "./roofline.ts";

/** Milliseconds of a measurement at least, as clocks rise with work. */
const AT_LEAST = 50;
const THREADS = 256;
/** Independent sums of a thread, each of four lanes. */
const SUMS = 8;
const UNROLLED = 16;
const LOOPS = 64;
/** Vectors of four that a thread copies. */
const COPIED = 4;

/** Multiply-adds on registers alone; one vector a thread is stored, so that none is left out. */
function fmaKernel(groups: number): Kernel {
  const body = repeat(UNROLLED, () => repeat(SUMS, (s) => `    r${s} = fma(r${s}, m, b);\n`));
  const code = `${storage(["vec4f"], ["vec4f"])}
@compute @workgroup_size(${THREADS}) fn main(${GROUP_BUILTINS}) {
  let m = a0[0];
  let b = a0[1];
${repeat(SUMS, (s) => `  var r${s} = b + vec4f(f32(lid + ${s}u));\n`)}
  for (var i = 0u; i < ${LOOPS}u; i++) {
${body}  }
  let group = ${GROUP_INDEX};
  o0[group * ${THREADS}u + lid] = ${Array.from({ length: SUMS }, (_, s) => `r${s}`).join(" + ")};
}`;
  const flops = 2 * 4 * SUMS * UNROLLED * LOOPS * THREADS * groups;
  return { name: `fma ${groups}`, code, grid: foldGrid(groups), flops };
}

/** Products on matrix units alone, of one pair of operands; all sums are stored, so that none is left out. */
function matrixKernel(
  groups: number,
  { unit, lanes }: { readonly unit: MatrixUnit; readonly lanes: number },
): Kernel {
  const words = matrixWords(unit.dialect), { m, n, k } = unit, threads = 4 * lanes;
  const load = (role: "left" | "right"): string =>
    words.load({ role, unit, byColumns: false }, {
      array: "&panels[0]",
      offset: 0,
      stride: (role === "left" ? k : n) / 8,
    });
  const chunks = Math.max(m * k, k * n) / 8, sums = m * n / 4;
  const body = repeat(
    UNROLLED,
    () => repeat(SUMS, (s) => `    c${s} = ${words.multiplyAdd("x", "y", `c${s}`)};\n`),
  );
  const code = `${words.header}${storage(["vec4<u32>"], ["vec4<f32>"])}
${words.memory({ operands: { count: 1, length: chunks }, sums: { count: 4, length: SUMS * sums } })}
@compute @workgroup_size(${threads}) fn main(${GROUP_BUILTINS}, @builtin(subgroup_id) sid: u32) {
  for (var i = lid; i < ${chunks}u; i += ${threads}u) { ${words.put("a0[i]", { panel: "0u", at: "i" })} }
  workgroupBarrier();
  let x = ${load("left")};
  let y = ${load("right")};
${repeat(SUMS, (s) => `  var c${s}: ${words.type("sums", unit)};\n`)}
  for (var i = 0u; i < ${LOOPS}u; i++) {
${body}  }
  workgroupBarrier();
${
    repeat(SUMS, (s) =>
      `  ${words.store(`c${s}`, { array: words.sumsPanel("sid"), offset: s * sums, stride: n / 4 })}\n`)
  }  workgroupBarrier();
  let group = ${GROUP_INDEX};
  o0[group * ${threads}u + lid] = ${words.sums({ panel: "sid", at: `lid % ${SUMS * sums}u` })};
}`;
  const flops = 2 * m * n * k * SUMS * UNROLLED * LOOPS * 4 * groups;
  return { name: `matrix ${groups}`, code, grid: foldGrid(groups), flops };
}

/** A copy of as many groups' worth of vectors. */
function copyKernel(groups: number): Kernel {
  const code = `${storage(["vec4f"], ["vec4f"])}
@compute @workgroup_size(${THREADS}) fn main(${GROUP_BUILTINS}) {
  let first = (${GROUP_INDEX}) * ${COPIED * THREADS}u + lid;
${repeat(COPIED, (i) => `  o0[first + ${i * THREADS}u] = a0[first + ${i * THREADS}u];\n`)}}`;
  return { name: `copy ${groups}`, code, grid: foldGrid(groups), flops: 0 };
}

/** A device's peaks, and work to keep it busy. */
export interface Measured {
  readonly peaks: Peaks;
  /** Submits multiply-adds of at least so many milliseconds. */
  readonly occupy: (milliseconds: number) => void;
}

/**
 * Measures the peaks.
 *
 * @param gpu The device; needs timestamps
 * @returns The peaks, the best of three readings of at least 50 ms each
 */
export async function measurePeaks(gpu: Gpu): Promise<Measured> {
  const vectors = Math.floor(gpu.device.limits.maxStorageBufferBindingSize / 16);
  const fmaGroups = gpu.software ? 8 : 8192;
  const copyGroups = Math.min(gpu.software ? 1024 : 16384, Math.floor(vectors / (COPIED * THREADS)));
  const bytes = 16 * COPIED * THREADS * copyGroups;
  const from = createBuffer(gpu, { label: "peak, from", bytes }),
    to = createBuffer(gpu, { label: "peak, to", bytes });
  gpu.device.queue.writeBuffer(
    from,
    0,
    new Float32Array([0.999, 0.999, 0.999, 0.999, 1e-3, 1e-3, 1e-3, 1e-3]),
  );
  const fma = fmaKernel(fmaGroups);
  const buffers = [{ buffer: from }, { buffer: to }];
  const compute = bindKernel(gpu, fma, buffers), copy = bindKernel(gpu, copyKernel(copyGroups), buffers);
  const least = async (work: BoundKernel): Promise<number> => {
    let times = 1, ms = 0;
    const reading = async (): Promise<number> => (await timePasses(gpu, [{ launches: [work], times }]))[0];
    while ((ms = await reading()) * times < AT_LEAST) {
      times = Math.ceil(times * Math.min(64, Math.max(2, 1.2 * AT_LEAST / (ms * times))));
    }
    return Math.min(ms, await reading(), await reading());
  };
  const fmaMs = await least(compute), copyMs = await least(copy);
  const { matrices = [], subgroupSize: lanes = 0 } = gpu.target;
  const unit = matrices.find(({ operands, sums }) => operands === "f16" && sums === "f32");
  const multiply = unit === undefined ? null : matrixKernel(gpu.software ? 1 : 4096, { unit, lanes });
  const matrixFlops = multiply === null
    ? 0
    : 1e3 * multiply.flops / await least(bindKernel(gpu, multiply, buffers));
  return {
    peaks: { flops: 1e3 * fma.flops / fmaMs, matrixFlops, bytes: 1e3 * 2 * bytes / copyMs },
    occupy(milliseconds) {
      const encoder = gpu.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      dispatchRepeated(pass, { launches: [compute], times: Math.ceil(milliseconds / fmaMs) });
      pass.end();
      gpu.device.queue.submit([encoder.finish()]);
    },
  };
}
