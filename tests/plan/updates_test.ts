/**
 * Leaves that are overwritten in the same step: each launch sees the values from before the step.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { leaf, type Tensor } from "@firn/train";
import { add, matmul, multiply, reshape, sum, tanh } from "@firn/train/ops";
import { plan } from "../../core/plan/plan.ts";
import { evaluate } from "../reference/evaluate.ts";
import { assertNear, random } from "../reference/values.ts";
import { knownTexts, runPlan } from "./run_plan.ts";

const x = Array.from({ length: 6 }, (_, i) => leaf(`x${i}`, { shape: [4, 4], dtype: "f32" }));

/** Overwrites leaves, each by its number, and compares them with what they must be; gives the number of launches. */
function update(
  values: Readonly<Record<number, Tensor>>,
  { keep = [] }: { readonly keep?: Tensor[] } = {},
): number {
  const updated = Object.keys(values).map(Number), roots = [...Object.values(values), ...keep];
  const before = new Map(x.map((_, i) => [`x${i}`, random([4, 4], { seed: i + 1 })]));
  const expected = evaluate(roots, before), texts = knownTexts();
  const target = { software: false, subgroups: true, workgroupBytes: 16384, maxBindings: 8 };
  const made = plan(roots, { target, updates: new Map(updated.map((n, i) => [i, x[n]])), texts });
  const leaves = new Map([...before].map(([path, { shape, data }]) => [path, { shape, data: data.slice() }]));
  const seen = runPlan(made, { asked: texts.asked, leaves });
  const tolerance = 1e-12; // Roundings of float64.
  updated.forEach((n, i) =>
    assertNear(leaves.get(`x${n}`)!.data, expected[i].data, { tolerance, what: `x${n}` })
  );
  keep.forEach((_, i) => {
    const { data } = expected[updated.length + i];
    assertNear(seen[updated.length + i].subarray(0, data.length), data, { tolerance, what: `root ${i}` });
  });
  return made.launches.length;
}

Deno.test("plan swaps two leaves by way of a third buffer", () => {
  assertEquals(update({ 0: x[1], 1: x[0] }), 3);
});

Deno.test("plan moves leaves round a ring, next to a leaf that gets one of them", () => {
  assertEquals(update({ 0: x[1], 1: x[2], 2: reshape(x[0], [4, 4]), 3: x[0] }), 5);
});

Deno.test("plan overwrites two leaves of which each needs the other's old value", () => {
  update({ 0: add(x[0], multiply(x[1], 0.5)), 1: tanh(add(x[1], x[0])) });
});

Deno.test("plan does not share a launch between updates that a third one lies between", () => {
  // x1 is read by the first, overwritten by the second, and the third overwrites what that reads.
  update({ 0: x[1], 1: add(x[1], multiply(x[2], 0.5)), 2: x[3] });
});

Deno.test("plan overwrites a leaf after a product that needs it and a value of the same group", () => {
  const u = multiply(x[1], 2);
  update({ 0: add(x[0], u) }, { keep: [matmul(tanh(u), x[0]), sum(multiply(u, u))] });
});
