/**
 * Kernels that plans of different frozen sets have in common: compiling one takes longer than a step.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  leaf,
  nextTokenLoss,
  type Precision,
  type Tensor,
  unflatten,
} from "@firn/train";
import { describeModel, families, type LlamaParams, modelParams, type TokenBatch } from "@firn/train/models";
import type { Launch } from "../../core/plan/types.ts";
import { plan } from "../../core/plan/plan.ts";
import type { TextCache } from "../../core/plan/types.ts";
import { textCache } from "../../core/plan/lower/kernel_cache.ts";
import { traceStep } from "../../core/train/step/trace.ts";
import { randomOrder } from "../../policies/random.ts";
import { llamaSource } from "../train/tiny.ts";
import { builtIn } from "../../core/train/freeze/built_in_signals.ts";

const target = { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 32 };
const signals = (["gradNorm", "gradDelta", "weightDelta"] as const).map(builtIn);
const model = describeModel(llamaSource({ layers: 8, tied: true }), { families, file: "config.json" });
const leaves = new Map(
  [...modelParams(model)].map(([path, { shape }]) => [path, leaf(path, { shape, dtype: "f32" })]),
);
const params = unflatten(leaves) as object as LlamaParams;

/** The launches of a step, with some matrices frozen. */
function launchesOf(
  frozen: readonly string[],
  { precision, texts }: { readonly precision: Precision; readonly texts?: TextCache },
): readonly Launch[] {
  const ids = (name: string): Tensor => leaf(`batch.${name}`, { shape: [2, 16], dtype: "i32" });
  const batch: TokenBatch = { inputIds: ids("inputIds"), labels: ids("labels") };
  const graph = traceStep({
    loss: nextTokenLoss({ ...model, params })(params, batch),
    active: new Map([...leaves].filter(([path]) => !frozen.includes(path))),
    trainable: [...leaves.keys()],
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 1e-4 })),
    signals,
    ring: [10, 3 + signals.length * leaves.size],
    precision,
  });
  return plan(graph.roots, { target, updates: graph.updates, precision, texts }).launches;
}

const textsOf = (frozen: readonly string[], precision: Precision): Set<string> =>
  new Set(launchesOf(frozen, { precision }).map(({ kernel }) => kernel.code));

for (const precision of ["f32", "f16"] as const) {
  Deno.test(`plans of frozen sets that grow come to need hardly any new kernel: ${precision}`, () => {
    const matrices = [...leaves.keys()].filter((path) => path.includes("_proj"));
    const order = randomOrder(matrices.length, { seed: 1, draw: 0 }).map((i) => matrices[i]);
    const seen = textsOf([], precision), fresh: number[] = [];
    for (const count of [6, 12, 18, 24, 30, 36]) {
      const texts = textsOf(order.slice(0, count), precision);
      fresh.push([...texts].filter((text) => !seen.has(text)).length);
      for (const text of texts) seen.add(text);
    }
    // Products that share a launch come in a few combinations and numbers, and so do updates and sums.
    assert(fresh.slice(2).reduce((a, b) => a + b) <= 6, `${fresh}`);
  });
}

Deno.test("a plan takes the kernels of plans before it, and is the same as without", () => {
  const texts = textCache(), frozen = [...leaves.keys()].filter((path) => path.includes("mlp"));
  const before = new Set(launchesOf([], { precision: "f32", texts }).map(({ kernel }) => kernel));
  const after = launchesOf(frozen, { precision: "f32", texts });
  assertEquals(after, launchesOf(frozen, { precision: "f32" }));
  const taken = after.filter(({ kernel }) => before.has(kernel)).length;
  assert(taken >= 0.8 * after.length, `${taken} of ${after.length}`);
});
