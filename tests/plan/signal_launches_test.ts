/**
 * What measuring costs in a plan: each signal is summed by launches that a step has anyway.
 *
 * @module
 */

import { assert } from "@std/assert";
import {
  adamW,
  chain,
  clipByGlobalNorm,
  nextTokenLoss,
  type Tensor,
  type TokenBatch,
  unflatten,
} from "@firn/train";
import { describeModel, families, type LlamaParams, modelParams } from "@firn/train/models";
import { plan } from "../../core/plan/plan.ts";
import type { Signal } from "../../core/policy.ts";
import { leaf } from "../../core/sources.ts";
import { builtIn } from "../../core/train/freeze/built_in_signals.ts";
import { traceStep } from "../../core/train/step/trace.ts";
import { ALL_SIGNALS, llamaSource } from "../train/tiny.ts";

const model = describeModel(llamaSource({ layers: 2, tied: true }), { families, file: "config.json" });
const leaves = new Map(
  [...modelParams(model)].map(([path, { shape }]) => [path, leaf(path, { shape, dtype: "f32" })]),
);
const target = { software: false, subgroups: true, workgroupBytes: 32768, maxBindings: 16 };

/** Launches of a step, and bytes that they read and write. */
function costOf(
  signals: readonly Signal[],
  { precision, clips }: { readonly precision: "f32" | "f16"; readonly clips: boolean },
) {
  const params = unflatten(leaves) as object as LlamaParams, adam = adamW({ learningRate: 1e-4 });
  const ids = (name: string): Tensor => leaf(`batch.${name}`, { shape: [2, 16], dtype: "i32" });
  const batch: TokenBatch = { inputIds: ids("inputIds"), labels: ids("labels") };
  const graph = traceStep({
    loss: nextTokenLoss({ ...model, params })(params, batch),
    active: leaves,
    trainable: [...leaves.keys()],
    optimizer: clips ? chain(clipByGlobalNorm(1), adam) : adam,
    signals: signals.map(builtIn),
    ring: [10, 3 + 3 * signals.length * leaves.size],
    precision,
  });
  return plan(graph.roots, { ...graph, target, precision }).cost;
}

/** Bytes of all gradients, once. */
const GRADIENTS = [...leaves.values()].reduce((n, { shape }) => n + 4 * shape.reduce((a, b) => a * b, 1), 0);
/** Signals that compare with the previous gradient, which they read and write. */
const COMPARING: readonly Signal[] = ["gradDelta", "gradDot"];

for (const precision of ["f32", "f16"] as const) {
  for (const clips of [false, true]) {
    Deno.test(`each signal alone is measured by the launches of a step, which read nothing twice for it: ${precision}${clips ? ", clipped" : ""}`, () => {
      const plain = costOf([], { precision, clips });
      for (const signal of ALL_SIGNALS) {
        const { launches, bytes } = costOf([signal], { precision, clips }),
          seen = `${signal}: ${launches}, ${bytes}`;
        assert(launches <= plain.launches + 3, `${seen}, not ${plain.launches}`);
        const least = COMPARING.includes(signal) ? 3 * GRADIENTS : 0;
        // Besides: the ring, and a partial sum of each parameter.
        assert(bytes <= plain.bytes + least + GRADIENTS / 8, `${seen}, not ${plain.bytes}`);
      }
    });
  }
}
