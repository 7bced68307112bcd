import { assertEquals } from "@std/assert";
import { grad, leaf, matmul, mean, multiply, subtract, sum, type Tensor } from "@firn/train";
import type { Plan, PlanOptions } from "../../core/plan/types.ts";
import { plan } from "../../core/plan/plan.ts";

const target = { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 32 };

/** The gradient of a product by its weight, how far it is from that of the step before, and the leaf for the next step. */
function keepGradient(options: Partial<PlanOptions>): { readonly made: Plan; readonly previous: Tensor } {
  const f32 = (path: string, shape: readonly number[]): Tensor => leaf(path, { shape, dtype: "f32" });
  const x = f32("x", [8, 16]), weight = f32("weight", [16, 32]), previous = f32("previous", [16, 32]);
  const y = matmul(x, weight);
  const [gradient] = grad(mean(multiply(y, y)), [weight]);
  const delta = subtract(gradient, previous);
  const roots = [sum(multiply(delta, delta)), gradient];
  return { made: plan(roots, { target, updates: new Map([[1, previous]]), ...options }), previous };
}

/** How many launches bind a leaf as one that they may write. */
function writesOf({ launches, buffers }: Plan, node: Tensor): number {
  const at = buffers.findIndex(({ source }) => source.kind === "leaf" && source.node === node);
  return launches.filter(({ bindings, kernel }) =>
    bindings.some((b, binding) =>
      b === at && kernel.code.includes(`@binding(${binding}) var<storage, read_write>`)
    )
  ).length;
}

Deno.test("plan lets a gradient take turns with the leaf that keeps it, so that no launch writes the leaf", () => {
  const copied = keepGradient({}), turned = keepGradient({ doubleBuffered: new Set([1]) });
  assertEquals([writesOf(copied.made, copied.previous), copied.made.doubleBuffers], [1, []]);
  assertEquals([writesOf(turned.made, turned.previous), turned.made.doubleBuffers.length], [0, 1]);
  const { made: { doubleBuffers: [{ slot, leaf }], buffers, roots } } = turned;
  assertEquals(buffers[leaf].source, { kind: "leaf", node: turned.previous });
  assertEquals(
    buffers.flatMap(({ source }, i) => source.kind === "slot" && source.slot === slot ? [i] : []),
    [
      roots[1],
    ],
  );
});

Deno.test("plan copies what cannot take turns: f16, values of a prefix, and what is no launch's result", () => {
  const turns = new Set([1]);
  assertEquals(keepGradient({ doubleBuffered: turns, precision: "f16" }).made.doubleBuffers, []);
  const prefix = { samples: 8, kindOf: () => null };
  assertEquals(keepGradient({ doubleBuffered: turns, prefix }).made.doubleBuffers, []);
  const x = leaf("x", { shape: [4], dtype: "f32" }), kept = leaf("kept", { shape: [4], dtype: "f32" });
  const { made, again } = {
    made: plan([multiply(x, 2)], { target, updates: new Map([[0, kept]]), doubleBuffered: new Set([0]) }),
    again: plan([x], { target, updates: new Map([[0, kept]]), doubleBuffered: new Set([0]) }),
  };
  assertEquals([made.doubleBuffers, again.doubleBuffers], [[], []]);
});
