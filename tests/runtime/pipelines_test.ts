import { assert, assertEquals, assertThrows } from "@std/assert";
import { openGpu } from "@firn/train";
import type { KernelText } from "../../core/kernel_call.ts";
import { bindKernel, compileAhead, compileAll } from "../../core/runtime/pipelines.ts";
import { wrappedGpu } from "./wrapped_gpu.ts";

function kernel(name: string, factor: string): KernelText {
  const code = `@group(0) @binding(0) var<storage, read_write> o0: array<f32>;
@compute @workgroup_size(1) fn main() { o0[0] = o0[0] * ${factor}; }`;
  return { name, code, grid: [1, 1, 1], flops: 1 };
}

Deno.test("compileAll compiles each new text once, at the same time, where an implementation compiles beside the host", async () => {
  const calls: string[] = [];
  await using opened = await openGpu({
    gpu: wrappedGpu({ bindings: 16, onCall: (name) => calls.push(name) }),
    tune: false,
  });
  const gpu = { ...opened, software: false };
  const two = kernel("two", "2.0"), three = kernel("three", "3.0");
  await compileAll(gpu, [two, three, two]);
  await compileAll(gpu, [two]);
  const asked = calls.filter((name) => name.startsWith("createComputePipeline"));
  assertEquals(asked, ["createComputePipelineAsync", "createComputePipelineAsync"]);
  assertEquals([gpu.pipelines.size, gpu.counts.pipelines], [2, 2]);
});

Deno.test("compileAll awaits what compileAhead began, and compiles none of it again", async () => {
  const calls: string[] = [];
  await using opened = await openGpu({
    gpu: wrappedGpu({ bindings: 16, onCall: (name) => calls.push(name) }),
    tune: false,
  });
  const gpu = { ...opened, software: false }, kernels = [kernel("two", "2.0"), kernel("probe", "nothing")];
  compileAhead(gpu, kernels);
  compileAhead(gpu, kernels);
  assertEquals(gpu.pipelines.size, 0, "nothing is awaited");
  await compileAll(gpu, [...kernels, kernel("three", "3.0")]);
  const asked = calls.filter((name) => name.startsWith("createComputePipeline"));
  assertEquals([asked.length, gpu.pipelines.size], [3, 2]);
  await compileAll(gpu, kernels);
  assertEquals(
    calls.filter((name) => name.startsWith("createComputePipeline")).length,
    4,
    "what failed begins anew",
  );
});

Deno.test("compileAll leaves to bindKernel what does not compile, which the device then reports", async () => {
  await using opened = await openGpu({ gpu: wrappedGpu({ bindings: 16 }), tune: false });
  const gpu = { ...opened, software: false };
  const wrong = kernel("probe", "nothing");
  await compileAll(gpu, [wrong]);
  assertEquals(gpu.pipelines.size, 0);
  const buffer = gpu.device.createBuffer({ size: 16, usage: 0x80 });
  try {
    bindKernel(gpu, wrong, [{ buffer }]);
  } catch (error) {
    assert(error instanceof Error);
  }
  await new Promise((resolve) => setTimeout(resolve, 10));
  assertThrows(() => gpu.check(), Error, "reports");
});

Deno.test("compileAll leaves all to bindKernel in Deno's own implementation and on software drivers, which compile one after the other", async () => {
  await using own = await openGpu({ tune: false });
  await using opened = await openGpu({ gpu: wrappedGpu({ bindings: 16 }), tune: false });
  for (const gpu of [{ ...own, software: false }, { ...opened, software: true }]) {
    await compileAll(gpu, [kernel("two", "2.0")]);
    assertEquals(gpu.pipelines.size, 0);
  }
});
