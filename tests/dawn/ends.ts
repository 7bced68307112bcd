/**
 * A process that uses Dawn and ends in the way that its argument names.
 *
 * @module
 */

import { matmul, openGpu, read, tensor } from "@firn/train";
import type { KernelText } from "../../core/kernel_call.ts";
import { compileAll } from "../../core/runtime/pipelines.ts";

const { gc } = globalThis as unknown as { readonly gc: () => void };
const open = () => openGpu({ gpu: "dawn" });

/** Collects what nothing holds, several times, as some of it is held until the next turn. */
async function collect(): Promise<void> {
  for (let i = 0; i < 6; i++) {
    gc();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Kernels that take a while to compile. */
const KERNELS: readonly KernelText[] = Array.from({ length: 4 }, (_, i) => ({
  name: `sum ${i}`,
  code: `@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(local_invocation_index) at: u32) {
  ${Array.from({ length: 40 }, (_, j) => `out[at + ${j}] += f32(at) * ${i}.5;`).join("\n  ")}
}`,
  grid: [1, 1, 1],
  flops: 1,
}));

/** A number that takes a while. */
async function product(gpu: Awaited<ReturnType<typeof open>>, n: number): Promise<number> {
  const a = tensor(new Float32Array(n * n).fill(1 / n), [n, n]);
  return (await read(gpu, matmul(matmul(a, a), a)))[0] * n;
}

const ENDS: Readonly<Record<string, () => Promise<void>>> = {
  async "closed, and opened again"() {
    for (let i = 0; i < 3; i++) {
      {
        await using gpu = await open();
        await product(gpu, 16);
      }
      await collect();
    }
  },
  async "never closed"() {
    await product(await open(), 16);
    await collect();
  },
  async "with nothing held but a buffer that is being mapped"() {
    const mapping = await (async () => {
      const { device } = await open();
      await collect();
      const buffer = device.createBuffer({ size: 64, usage: 1 | 8 });
      device.queue.submit([device.createCommandEncoder().finish()]);
      return buffer.mapAsync(1);
    })();
    await collect();
    await mapping;
  },
  async "while work is queued"() {
    const gpu = await open();
    await product(gpu, 16);
    product(gpu, 256);
  },
  async "closed while kernels are being compiled"() {
    let compiled: Promise<void>;
    {
      await using gpu = await open();
      compiled = compileAll({ ...gpu, software: false }, KERNELS);
    }
    await collect();
    await compiled;
  },
  async "while kernels are being compiled"() {
    compileAll({ ...await open(), software: false }, KERNELS);
  },
  async "by an error while work is queued"() {
    await using gpu = await open();
    product(gpu, 256).catch(() => {});
    throw new Error("on purpose");
  },
  async "by Deno.exit while work is queued"() {
    product(await open(), 256);
    await new Promise((resolve) => setTimeout(resolve, 5));
    console.log("end");
    Deno.exit(0);
  },
};

if (Deno.args.length === 0) console.log(JSON.stringify(Object.keys(ENDS)));
else {
  await ENDS[Deno.args[0]]();
  console.log("end");
}
