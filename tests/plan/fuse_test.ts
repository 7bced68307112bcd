/**
 * Which values are read together.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import {
  abs,
  adamW,
  chain,
  clipByGlobalNorm,
  leaf,
  matmul,
  multiply,
  permute,
  type Precision,
  subtract,
  sum,
} from "@firn/train";
import { silu, sumEach } from "@firn/train/ops";
import { plan } from "../../core/plan/plan.ts";
import { traceStep } from "../../core/train/step/trace.ts";
import {} from "../train/tiny.ts";
import { builtIn } from "../../core/train/freeze/built_in_signals.ts";

for (const precision of ["f32", "f16"] as const satisfies readonly Precision[]) {
  Deno.test(`plan measures in the launch that updates, though the gradient is elementwise: ${precision}`, () => {
    const [w, x] = ["w", "x"].map((path) => leaf(path, { shape: [4, 8], dtype: "f32" }));
    const { roots, updates } = traceStep({
      loss: sum(multiply(multiply(w, w), x)),
      active: new Map([["w", w]]),
      optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 0.1 })),
      signals: (["gradNorm", "gradDelta", "weightDelta"] as const).map(builtIn),
      ring: [2, 6],
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

/** Kernels over the gradients of two weights whose norm clips, where one signal of some is measured. */
function kernelsOf(measured: RegExp, precision: Precision): string[] {
  const shapes = { bottom: [8, 8], top: [8, 4], x: [8, 8] };
  const [bottom, top, x] = Object.entries(shapes).map(([path, shape]) => leaf(path, { shape, dtype: "f32" }));
  const graph = traceStep({
    loss: sum(matmul(silu(matmul(x, bottom)), top)),
    active: new Map([["bottom", bottom], ["top", top]]),
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 0.1 })),
    signals: [builtIn("gradNorm")],
    isMeasured: (_, path) => measured.test(path),
    ring: [2, 5],
    precision,
  });
  const target = { software: false, subgroups: true, workgroupBytes: 32768, maxBindings: 16 };
  return plan(graph.roots, { target, ...graph, precision }).launches.map(({ kernel }) => kernel.name);
}

Deno.test("plan measures in the launches that sum up the norm of all gradients, though some are not measured", () => {
  // The gradient of the bottom is there last: a sum of the top's alone could begin before.
  const [all, bottom, top, none] = [/./, /bottom/, /top/, /^$/].map((measured) => kernelsOf(measured, "f32"));
  const sums = (kernels: readonly string[]) =>
    kernels.filter((name) => /abs|^multiply \d+x\d+/.test(name)).sort();
  assertEquals(sums(all), ["multiply+abs 8x4", "multiply+abs 8x8"]);
  assertEquals(sums(bottom), ["multiply 8x4", "multiply+abs 8x8"]);
  assertEquals(sums(top), ["multiply 8x8", "multiply+abs 8x4"]);
  assertEquals(sums(none), ["multiply 8x4", "multiply 8x8"]);
  for (const kernels of [bottom, top, none]) assertEquals(kernels.length, all.length);
});

Deno.test("plan sums up norm and overflow of gradients in one launch, whatever is measured", () => {
  for (const measured of [/./, /bottom/, /top/, /^$/]) {
    const judging = kernelsOf(measured, "f16").filter((name) => name.includes("notFinite"));
    const own = judging.map((name) => name.replace("+abs", ""));
    assertEquals(own, ["unscale+notFinite+multiply 8x8", "unscale+notFinite+multiply 8x4"]);
  }
});

Deno.test("plan leaves what waits for a group to another launch: a history whose oldest values are read as they move", () => {
  const [one, two, x] = ["one", "two", "x"].map((path) => leaf(path, { shape: [4, 8], dtype: "f32" }));
  const now = abs(x);
  const seen = sumEach([abs(subtract(now, two)), matmul(matmul(x, permute(two, [1, 0])), now)]);
  const target = { software: false, subgroups: true, workgroupBytes: 32768, maxBindings: 16 };
  // `two` becomes `one` after its last reader, and `one` what is now after that: no launch reads `two` and writes `one`.
  const { launches, buffers } = plan([now, one, seen], { target, updates: new Map([[0, one], [1, two]]) });
  const pathOf = (b: number): unknown => {
    const { source } = buffers[b];
    return source.kind === "leaf" ? (source.node.attrs as { path: string }).path : null;
  };
  const binding = launches.map(({ bindings }) =>
    bindings.map(pathOf).filter((path) => path !== "x" && path !== null)
  );
  assertEquals(binding.filter((paths) => paths.length > 0), [["two"], ["two"], ["one", "two"], ["one"]]);
});

/** Signals that read all that a step has of a parameter. */
const SIGNALS = [
  "gradNorm",
  "gradSquare",
  "gradDot",
  "weightNorm",
  "updateNorm",
  "firstMoment",
  "secondMoment",
] as const;

for (const precision of ["f32", "f16"] as const satisfies readonly Precision[]) {
  Deno.test(`plan binds eight buffers at most where an adapter has no more, whatever is measured: ${precision}`, () => {
    const [w, x] = [["w", 8], ["x", 4]].map(([path, rows]) =>
      leaf(path as string, { shape: [rows as number, 8], dtype: "f32" })
    );
    const y = matmul(x, w), adam = adamW({ learningRate: 0.1 });
    for (const optimizer of [adam, chain(clipByGlobalNorm(1), adam)]) {
      for (let set = 0; set < 2 ** SIGNALS.length; set++) {
        const signals = SIGNALS.filter((_, i) => (set >> i) % 2 === 1).map(builtIn);
        const { roots, updates } = traceStep({
          loss: sum(multiply(y, y)),
          active: new Map([["w", w]]),
          optimizer,
          signals,
          ring: [2, 3 + 3 * signals.length],
          precision,
        });
        const target = { software: false, subgroups: true, workgroupBytes: 32768, maxBindings: 8 };
        const { launches } = plan(roots, { target, updates, precision });
        assert(
          launches.every(({ bindings }) => bindings.length <= 8),
          signals.map(({ name }) => name).join(),
        );
      }
    }
  });
}
