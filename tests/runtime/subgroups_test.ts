/**
 * Devices without subgroups: how one is opened, and what it computes.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  adamW,
  defineTraining,
  free,
  freeState,
  type Gpu,
  nextTokenLoss,
  openGpu,
  readAll,
  type TokenBatch,
} from "@firn/train";
import { newModel } from "@firn/train/hub";
import { subgroupsOf } from "../../core/runtime/features.ts";
import { cutBy, tile } from "../plan/cut.ts";
import { llamaSource, tokenBatch, valuesOf } from "../train/tiny.ts";
import { assertNear } from "../reference/values.ts";

/** Opens the adapter of this machine as if it refused some features, which it may hide from its list either way. */
async function openWithout(refused: readonly string[]): Promise<Gpu> {
  const { gpu } = navigator, asked = gpu.requestAdapter.bind(gpu);
  const requestAdapter: typeof asked = async (options) => {
    const adapter = await asked(options);
    const requestDevice = (descriptor: GPUDeviceDescriptor = {}): Promise<GPUDevice> => {
      const found = [...descriptor.requiredFeatures ?? []].find((feature) => refused.includes(feature));
      return found === undefined
        ? adapter!.requestDevice(descriptor)
        : Promise.reject(new TypeError(`no ${found}`));
    };
    const { limits, features, info } = adapter!;
    return { limits, features, info, requestDevice } as unknown as GPUAdapter;
  };
  Object.defineProperty(gpu, "requestAdapter", { value: requestAdapter, configurable: true });
  try {
    return await openGpu();
  } finally {
    Reflect.deleteProperty(gpu, "requestAdapter");
  }
}

/** Parameters and losses of two steps of a small Llama whose heads are tiled on a GPU, and the texts of its kernels. */
async function train(opened: Gpu): Promise<{
  readonly values: ReadonlyMap<string, ArrayLike<number>>;
  readonly texts: readonly string[];
}> {
  const gpu = { ...opened, pipelines: new Map<string, GPUComputePipeline>() };
  const source = { ...llamaSource({ layers: 1, tied: true }), head_dim: 16 };
  const model = await newModel(gpu, { source, seed: 3 });
  const training = defineTraining<object, TokenBatch>(gpu, nextTokenLoss(model), {
    optimizer: adamW({ learningRate: 0.01 }),
    steps: 2,
  });
  let state = await training.init(model.params);
  const values = new Map<string, ArrayLike<number>>();
  for (const seed of [1, 2]) {
    state = await training.next(state, tokenBatch([2, 16], seed));
    values.set(`loss ${seed}`, (await readAll(gpu, [state.loss!]))[0]);
  }
  for (const one of await valuesOf(gpu, state.params as Parameters<typeof valuesOf>[1])) values.set(...one);
  training[Symbol.dispose]();
  free(model.params);
  freeState(state);
  return { values, texts: [...gpu.pipelines.keys()] };
}

/** A device with the kernels of a software adapter or of a GPU, in blocks or tiles that compile quickly. */
function smallProducts(gpu: Gpu, software: boolean): Gpu {
  const target = { ...gpu.target, software }, { subgroups } = target;
  return { ...gpu, target: cutBy(target, software ? { kind: "direct", tm: 8, tn: 2, subgroups } : tile(1)) };
}

const usesSubgroups = (texts: readonly string[]): boolean => texts.some((text) => text.includes("subgroup"));

Deno.test("openGpu asks for each feature alone where all together are refused", async () => {
  await using whole = await openGpu();
  for (const refused of ["subgroups", "timestamp-query"]) {
    await using gpu = await openWithout([refused]);
    assertEquals(gpu.features, new Set([...whole.features].filter((feature) => feature !== refused)));
    assertEquals(gpu.target.subgroups, refused !== "subgroups" && whole.target.subgroups);
  }
  await using bare = await openWithout(["subgroups", "timestamp-query"]);
  assertEquals([bare.features.has("subgroups"), bare.features.has("timestamp-query")], [false, false]);
  assertEquals([bare.target.subgroups, bare.target.wideSubgroups, bare.tuning.enabled], [
    false,
    false,
    false,
  ]);
});

Deno.test("subgroupsOf counts on what every subgroup of the adapter has, and on nothing without the feature", () => {
  const features = new Set(["subgroups"]);
  const seen = [4, 8, 16, 32].map((subgroupMinSize) => subgroupsOf(features, { subgroupMinSize }));
  assertEquals(seen.map(({ subgroups }) => subgroups), [false, true, true, true]);
  assertEquals(seen.map(({ wideSubgroups }) => wideSubgroups), [false, false, true, true]);
  assertEquals(subgroupsOf(new Set(), { subgroupMinSize: 32, subgroupMaxSize: 32 }), {
    ...{ subgroups: false, wideSubgroups: false },
    ...{ subgroupSize: 0, matrices: [] },
  });
});

Deno.test("subgroupsOf tells the matrix units of floats that the device was granted, those with f32 sums first", () => {
  const config = (componentType: string, resultComponentType: string, [M, N, K]: readonly number[]) => ({
    ...{ componentType, resultComponentType },
    ...{ M, N, K },
  });
  const info = {
    subgroupMinSize: 32,
    subgroupMaxSize: 32,
    subgroupMatrixConfigs: [
      config("f16", "f16", [16, 16, 16]),
      config("i8", "i32", [16, 16, 32]),
      config("f16", "f32", [16, 8, 16]),
      config("f32", "f32", [8, 8, 8]),
    ],
  };
  const features = ["subgroups", "shader-f16", "chromium-experimental-subgroup-matrix"];
  const { subgroupSize, matrices } = subgroupsOf(new Set(features), info);
  assertEquals(subgroupSize, 32);
  assertEquals(matrices, [
    { m: 16, n: 8, k: 16, operands: "f16", sums: "f32" },
    { m: 8, n: 8, k: 8, operands: "f32", sums: "f32" },
    { m: 16, n: 16, k: 16, operands: "f16", sums: "f16" },
  ]);
  const counts = features.map((left) =>
    subgroupsOf(new Set(features.filter((feature) => feature !== left)), info).matrices.length
  );
  assertEquals(counts, [0, 1, 0]);
  // A subgroup that may be smaller than its matrices expect has none.
  const several = subgroupsOf(new Set(features), { ...info, subgroupMinSize: 16 });
  assertEquals([several.subgroupSize, several.matrices], [0, []]);
});

for (const [kernels, software] of [["software", true], ["hardware", false]] as const) {
  Deno.test(`training is the same on a device without subgroups: ${kernels} kernels`, async () => {
    await using own = await openGpu();
    await using bare = await openWithout(["subgroups"]);
    const [expected, seen] = [
      await train(smallProducts(own, software)),
      await train(smallProducts(bare, software)),
    ];
    assertEquals(usesSubgroups(seen.texts), false);
    assertEquals(usesSubgroups(expected.texts), own.target.subgroups);
    assert(expected.values.size > 10);
    for (const [path, values] of expected.values) {
      // Sums of some ten terms in another order; Adam divides by their size, so that small gradients show it most.
      assertNear(seen.values.get(path)!, values, { tolerance: 1e-5, what: path });
    }
  });
}
