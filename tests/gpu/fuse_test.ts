/**
 * Which values are read together.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { adamW, chain, clipByGlobalNorm, leaf, multiply, type Precision, sum } from "@firn/train";
import { plan } from "../../core/gpu/plan.ts";
import { traceStep } from "../../core/loop/trace.ts";

for (const precision of ["f32", "f16"] as const satisfies readonly Precision[]) {
  Deno.test(`plan measures in the launch that updates, though the gradient is elementwise: ${precision}`, () => {
    const [w, x] = ["w", "x"].map((path) => leaf(path, { shape: [4, 8], dtype: "f32" }));
    const { roots, updates } = traceStep({
      loss: sum(multiply(multiply(w, w), x)),
      active: new Map([["w", w]]),
      optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 0.1 })),
      signals: ["gradNorm", "gradDelta", "weightDelta"],
      ring: [2, 5],
      precision,
    });
    const target = { software: false, subgroups: true, workgroupBytes: 32768, maxBindings: 16 };
    const { launches, buffers } = plan(roots, { target, updates, precision });
    const reading = (path: string): number =>
      launches.filter(({ bindings }) =>
        bindings.some((b) => {
          const { source } = buffers[b];
          return source.kind === "leaf" && (source.node.attrs as { path: string }).path === path;
        })
      ).length;
    assertEquals(["previous.w", "optimizer.m.w", "optimizer.v.w"].map(reading), [1, 1, 1]);
  });
}
