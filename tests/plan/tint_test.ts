/**
 * What a training step of a device with matrix units is made of, for Tint, the compiler of Dawn: no driver is needed.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { adamW, chain, clipByGlobalNorm, leaf, nextTokenLoss, type Tensor, unflatten } from "@firn/train";
import { describeModel, families, type LlamaParams, modelParams, type TokenBatch } from "@firn/train/models";
import type { Target } from "@firn/train/ops";
import { sourceOf } from "../../core/runtime/pipelines.ts";
import { plan } from "../../core/plan/plan.ts";
import { traceStep } from "../../core/train/step/trace.ts";
import { textChecker } from "../kernels/matrix_device.ts";
import { matrixProducts } from "../../kernels/matmul/matrix_products.ts";
import { llamaSource } from "../train/tiny.ts";
import { builtIn } from "../../core/train/freeze/built_in_signals.ts";

const checker = await textChecker();
const subgroupDirective = "enable subgroups;\ndiagnostic(off, subgroup_uniformity);\n";
const COMMON = { software: false, subgroups: true, wideSubgroups: true, maxBindings: 16 };

/** Devices by what Dawn says of them. */
const TARGETS: readonly (readonly [name: string, Target])[] = [
  ["an NVIDIA card", {
    ...COMMON,
    subgroupSize: 32,
    units: matrixProducts,
    matrices: [{ m: 16, n: 16, k: 16, operands: "f16", sums: "f32" }],
    workgroupBytes: 49152,
  }],
  ["lavapipe of Mesa 26", {
    ...{ ...COMMON, software: true, wideSubgroups: false },
    subgroupSize: 8,
    units: matrixProducts,
    matrices: [{ m: 8, n: 8, k: 8, operands: "f16", sums: "f32" }],
    workgroupBytes: 32768,
  }],
  ...[8, 10, 12].map((maxBindings): [string, Target] => [
    `a card without matrix units and with ${maxBindings} bindings`,
    { ...COMMON, maxBindings, workgroupBytes: 32768 },
  ]),
];

/** The texts of a step of a Llama whose products fill tiles. */
function textsOf(target: Target): string[] {
  const source = { ...llamaSource({ layers: 2, tied: true }), hidden_size: 256, intermediate_size: 384 };
  const model = describeModel({ ...source, vocab_size: 512, max_position_embeddings: 128 }, {
    families,
    file: "config.json",
  });
  const leaves = new Map(
    [...modelParams(model)].map(([path, { shape }]) => [path, leaf(path, { shape, dtype: "f32" })]),
  );
  const params = unflatten(leaves) as object as LlamaParams;
  const ids = (name: string): Tensor => leaf(`batch.${name}`, { shape: [2, 128], dtype: "i32" });
  const batch: TokenBatch = { inputIds: ids("inputIds"), labels: ids("labels") };
  const signals = (["gradNorm", "gradDelta", "weightDelta"] as const).map(builtIn);
  const graph = traceStep({
    loss: nextTokenLoss({ ...model, params })(params, batch),
    active: leaves,
    trainable: [...leaves.keys()],
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 1e-4 })),
    signals,
    ring: [10, 3 + signals.length * leaves.size],
    precision: "f16",
  });
  const { launches } = plan(graph.roots, { target, updates: graph.updates, precision: "f16" });
  return [...new Set(launches.map(({ kernel }) => kernel.code))];
}

for (const [name, target] of TARGETS) {
  Deno.test({
    name: typeof checker === "string"
      ? `Tint compiles every kernel of a step in f16 for ${name} (not run: ${checker})`
      : `Tint compiles every kernel of a step in f16 for ${name}`,
    ignore: typeof checker === "string",
    async fn() {
      if (typeof checker === "string") return;
      const texts = textsOf(target), wrong: string[] = [];
      assert(texts.length > 30, `only ${texts.length} kernels`);
      const matrices = texts.filter((text) => text.includes("subgroupMatrixLoad")).length;
      assertEquals(matrices > 0, target.matrices !== undefined, `${matrices} kernels use matrix units`);
      for (const text of texts) {
        const errors = await checker(sourceOf({ subgroupDirective }, text));
        if (errors.length > 0) wrong.push(`${errors[0]}\n${text}`);
      }
      assertEquals(wrong.slice(0, 2), []);
    },
  });
}
