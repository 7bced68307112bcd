/** Mixtures of experts: what they cost, their components and their gradients. */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { grad, leaf, multiply, sum, type Tensor } from "@firn/train";
import { mixture } from "@firn/train/nn";
import { plan } from "../../core/plan/plan.ts";
import { findComponents } from "../../core/train/freeze/components.ts";
import { evaluateFused } from "../reference/evaluate_fused.ts";
import { random, slopes, type Values } from "../reference/values.ts";

const target = { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 8 };

interface Sizes {
  readonly experts: number;
  readonly top: number;
  readonly tokens: number;
  readonly c: number;
  readonly f: number;
}

/** Leaves of a mixture and of its input. */
function leavesOf(
  { experts, tokens, c, f }: Omit<Sizes, "top">,
): Record<"x" | "gate" | "up" | "down", Tensor> {
  const of = (name: string, shape: readonly number[]): Tensor => leaf(name, { shape, dtype: "f32" });
  return {
    x: of("x", [1, tokens, c]),
    gate: of("gate.weight", [experts, c]),
    up: of("experts.gate_up_proj", [experts, 2 * f, c]),
    down: of("experts.down_proj", [experts, c, f]),
  };
}

function lossOf({ x, gate, up, down }: ReturnType<typeof leavesOf>, top: number, normalize = true): Tensor {
  const params = { gate: { weight: gate }, experts: { gate_up_proj: up, down_proj: down } };
  const y = mixture(x, params, { top, normalize });
  return sum(multiply(y, y));
}

/** What a step costs without the gradients of parameters, which are as large as these. */
function costOf(sizes: Sizes): { readonly flops: number; readonly memory: number } {
  const leaves = leavesOf(sizes), loss = lossOf(leaves, sizes.top);
  const { cost } = plan([loss, ...grad(loss, [leaves.x])], { target });
  return { flops: cost.matmulFlops, memory: cost.memory };
}

Deno.test("work and memory of a mixture grow with the experts of a token, not with all experts", () => {
  const sizes = { tokens: 512, c: 32, f: 48 }, router = (experts: number): number => 4 * 512 * 32 * experts;
  const [few, many, more] = [[8, 2], [64, 2], [64, 4]].map(([experts, top]) =>
    costOf({ ...sizes, experts, top })
  );
  // Forward, and the gradient of rows, each of three products of 512 x top rows.
  const expected = (top: number): number => 2 * 3 * 2 * 512 * top * 32 * 48;
  assertEquals(few.flops, expected(2) + router(8));
  assertEquals(many.flops, expected(2) + router(64));
  assertEquals(more.flops, expected(4) + router(64));
  // Only scores of the router, counts and tiles have a size for each expert.
  const scores = 4 * 512 * (64 - 8);
  assert(many.memory - few.memory < 6 * scores, `${few.memory} bytes, then ${many.memory}`);
  const rows = 4 * 512 * 2 * (2 * 48 + 32);
  assert(more.memory - many.memory > rows, `${many.memory} bytes, then ${more.memory}`);
  assert(many.memory < 1.35 * few.memory, `${few.memory} bytes, then ${many.memory}`);
});

Deno.test("the tensors of all experts of a layer are two components, and the router is one", () => {
  const { x: _, ...own } = leavesOf({ experts: 4, tokens: 6, c: 4, f: 3 });
  const all = leavesOf({ experts: 4, tokens: 6, c: 4, f: 3 });
  const leaves = new Map(Object.values(own).map((t) => [(t.attrs as { path: string }).path, t]));
  const loss = lossOf({ ...all, ...own }, 2);
  const found = findComponents(loss, { leaves, trainable: () => true });
  assertEquals(found.map(({ path }) => path), ["gate", "experts.gate_up_proj", "experts.down_proj"]);
  // Two experts of three products for each of six tokens, forward.
  assertEquals(found[1].cost!.forward + found[2].cost!.forward, 2 * 12 * 3 * 4 * 3);
});

Deno.test("second derivatives of a mixture equal float64 differences of the first ones", () => {
  const leaves = leavesOf({ experts: 3, tokens: 4, c: 3, f: 2 }), list = Object.values(leaves);
  const inputs = list.map(({ shape }, i): Values => random(shape, { seed: i + 1 }));
  const mixed = (of: readonly Tensor[]): Tensor =>
    of.map((t, i) => sum(multiply(t, multiply(t, i + 1)))).reduce((a, b) => multiply(a, b));
  const once = mixed(grad(lossOf(leaves, 2, false), list));
  const value = (at: readonly Values[]): number =>
    evaluateFused([once], new Map(list.map((t, i) => [t, at[i]])))[0].data[0];
  const seen = evaluateFused(grad(once, list), new Map(list.map((t, i) => [t, inputs[i]])));
  seen.forEach(({ data }, index) => {
    const elements = [...data.keys()].filter((i) => i % 5 === 0);
    const expected = slopes(value, { inputs, index, elements }), scale = Math.max(...expected.map(Math.abs));
    elements.forEach((i, n) =>
      assertAlmostEquals(data[i], expected[n], 1e-6 * scale, `input ${index}, ${i}`)
    );
  });
});
