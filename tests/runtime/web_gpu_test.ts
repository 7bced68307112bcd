/**
 * Devices of another implementation than Deno's own.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import {
  adamW,
  add,
  chain,
  clipByGlobalNorm,
  defineTraining,
  fill,
  flatten,
  InputError,
  nextTokenLoss,
  openGpu,
  read,
  type Tensor,
  tensor,
  unflatten,
  type WebGpu,
} from "@firn/train";
import { newModel } from "@firn/train/hub";
import * as page from "../browser/page.ts";
import { differenceOf, tinyRun } from "../browser/tiny_run.ts";
import { ALL_SIGNALS, llamaSource, tokenBatch } from "../train/tiny.ts";
import { wrappedGpu } from "./wrapped_gpu.ts";

/**
 * With fewer bindings fused kernels are cut elsewhere, so a compiler may contract other multiplications and additions. That
 * changes the last bits of gradients, which Adam's first steps amplify where a gradient is tiny. lavapipe gives equal bits.
 */
const ROUNDING = 2e-5;

const native = await (async () => {
  await using gpu = await openGpu();
  return await tinyRun(page, gpu);
})();

for (const bindings of [8, 10]) {
  Deno.test(`a training on another implementation with ${bindings} bindings equals the one on Deno's own`, async () => {
    await using gpu = await openGpu({ gpu: wrappedGpu({ bindings }) });
    assertEquals(gpu.target.maxBindings, bindings);
    assertEquals([...gpu.features].filter((feature) => feature !== "shader-f16"), []);
    const run = await tinyRun(page, gpu);
    assert(run.bindings <= bindings, `a kernel binds ${run.bindings}`);
    assertEquals(run.generated, native.generated);
    const difference = differenceOf(native, run);
    assert(difference < ROUNDING, `the runs differ by ${difference}`);
  });
}

Deno.test("an adapter trains in f16 with every signal measured, with 8 bindings as on Deno's own", async () => {
  const losses: number[][] = [];
  for (const options of [{}, { gpu: wrappedGpu({ bindings: 8 }) }]) {
    await using gpu = await openGpu(options);
    const base = await newModel(gpu, { source: llamaSource({ layers: 1, tied: false }), seed: 1 });
    const pairs = new Map<string, Tensor>(
      [...flatten(base.params)].filter(([path]) => /_proj\.weight$/.test(path)).flatMap(
        ([path, { shape }]) => {
          const at = path.slice(0, -".weight".length);
          return [
            [`${at}.lora_A.weight`, fill(0.01, [4, shape[1]])],
            [`${at}.lora_B.weight`, fill(0.01, [shape[0], 4])],
          ] as const;
        },
      ),
    );
    const params = unflatten(new Map([...flatten(base.params), ...pairs]));
    const policy = {
      name: "all",
      signals: ALL_SIGNALS,
      init: () => null,
      next: () => null,
      frozen: () => [],
    };
    const training = defineTraining(gpu, nextTokenLoss({ ...base, params, loraScale: 2 }), {
      optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 1e-3 })),
      trainable: (path) => pairs.has(path),
      precision: gpu.features.has("shader-f16") ? "f16" : "f32",
      steps: 2,
      lookEvery: 2,
      policy,
    });
    let state = await training.init(params);
    for (const seed of [1, 2]) state = await training.next(state, tokenBatch([2, 12], seed));
    losses.push([...state.look!.loss]);
  }
  losses[0].forEach((loss, i) => assertAlmostEquals(losses[1][i], loss, ROUNDING * loss));
});

Deno.test("openGpu begins shaders with the directive of subgroups where the compiler asks for it", async () => {
  await using own = await openGpu();
  if (!own.features.has("subgroups")) return;
  assertEquals(own.subgroupDirective, "");
  await using gpu = await openGpu({ gpu: wrappedGpu({ bindings: 10, subgroups: true }) });
  assertEquals([...gpu.features].toSorted(), ["shader-f16", "subgroups"]);
  assert(gpu.subgroupDirective.startsWith("enable subgroups;"));
  const run = await tinyRun(page, gpu);
  assert([...gpu.pipelines.keys()].some((code) => /subgroup[A-Z]/.test(code)), "no kernel used subgroups");
  assert(differenceOf(native, run) < ROUNDING);
});

Deno.test("openGpu uses no subgroups where neither form of their shaders compiles", async () => {
  const gpu = wrappedGpu({ bindings: 8, subgroups: true });
  const failing: WebGpu = {
    async requestAdapter(options) {
      const adapter = (await gpu.requestAdapter(options))!;
      return {
        ...{ limits: adapter.limits, info: adapter.info, features: adapter.features },
        async requestDevice(wanted: GPUDeviceDescriptor) {
          const device = await adapter.requestDevice(wanted);
          return new Proxy(device, {
            get: (_, key) =>
              key === "createShaderModule"
                ? () => device.createShaderModule({ code: "none" })
                : Reflect.get(device, key),
          });
        },
      } as GPUAdapter;
    },
  };
  await using opened = await openGpu({ gpu: failing });
  assertEquals([opened.features.has("subgroups"), opened.target.subgroups], [false, false]);
});

Deno.test("read awaits the mapping of an implementation other than Deno's own, and asks for no range before", async () => {
  const calls: string[] = [];
  await using gpu = await openGpu({ gpu: wrappedGpu({ bindings: 8, onCall: (name) => calls.push(name) }) });
  for (let i = 0; i < 3; i++) assertEquals([...await read(gpu, add(tensor([i, 2]), 1))], [i + 1, 3]);
  assertEquals(calls.filter((name) => name === "getMappedRange").length, 3);
});

Deno.test("openGpu refuses what does not speak WebGPU, and says so", async () => {
  for (const gpu of [{}, null, 7, "webgl"] as unknown as WebGpu[]) {
    await assertRejects(
      () => openGpu({ gpu }),
      InputError,
      'Cannot open a GPU as "gpu" must be "auto", "deno" or "dawn", or speak WebGPU: it has no requestAdapter',
    );
  }
});

Deno.test("openGpu says that there is no adapter, and how to get one", async () => {
  const gpu: WebGpu = { requestAdapter: () => Promise.resolve(null) };
  await assertRejects(() => openGpu({ gpu }), Error, "Cannot open a GPU as WebGPU has no adapter");
});
