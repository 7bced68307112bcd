/**
 * Ops that read as many buffers as a device binds, and more.
 *
 * @module
 */

import { assertEquals, assertThrows } from "@std/assert";
import { InputError, leaf, type Op, type Tensor } from "@firn/train";
import { add, apply, sum, tanh } from "@firn/train/ops";
import { plan } from "../../core/plan/plan.ts";

const target = { software: false, subgroups: true, workgroupBytes: 16384, maxBindings: 8 };

/** The sum of all inputs, as one elementwise op. */
const totalOp: Op<null> = {
  name: "total",
  infer: ([{ shape }]) => [{ shape, dtype: "f32" }],
  element: { text: (args) => args.join(" + "), value: (...args) => args.reduce((a, b) => a + b, 0) },
};

const total = (inputs: readonly Tensor[]): Tensor => apply(totalOp, inputs, null);
const leaves = (count: number): Tensor[] =>
  Array.from({ length: count }, (_, i) => leaf(`x${i}`, { shape: [4], dtype: "f32" }));
const mostBound = (root: Tensor): number =>
  Math.max(...plan([root], { target }).launches.map(({ bindings }) => bindings.length));

Deno.test("plan gives an op of seven inputs, each made of many, a launch of eight bindings", () => {
  const inputs = leaves(28).map((x) => tanh(x));
  const parts = Array.from(
    { length: 7 },
    (_, i) => inputs.slice(4 * i, 4 * i + 4).reduce((a, b) => add(a, b)),
  );
  assertEquals(mostBound(total(parts)), 8);
  assertEquals(mostBound(sum(total(parts), 0)), 8);
});

Deno.test("plan says how many buffers an op of eight inputs needs where a device binds no more", () => {
  assertThrows(
    () => plan([total(leaves(8))], { target }),
    InputError,
    'Cannot launch "total 4" as the adapter binds 8 buffers: it needs 9',
  );
});
