/**
 * Sums inside the kernel of a term.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { fuseResidual } from "../../core/plan/rewrite/fuse_residual.ts";
import { add, grad, multiply, sum, type Tensor } from "@firn/train";
import { rmsNorm } from "@firn/train/ops";
import { leaf } from "../../core/sources.ts";

const x = leaf("x", { shape: [2, 8], dtype: "f32" }), gain = leaf("gain", { shape: [8], dtype: "f32" });
const other = leaf("other", { shape: [2, 8], dtype: "f32" });

function normGrad(): Tensor {
  const [dx] = grad(sum(multiply(rmsNorm(x, gain, { eps: 1e-5 }), other)), [x]);
  return dx;
}

Deno.test("fuseResidual adds to the gradient of a norm inside its kernel", () => {
  const [sum] = fuseResidual([add(other, normGrad())]);
  assertEquals([sum.op.name, sum.inputs.length, sum.inputs[4]], ["rmsNormGrad", 5, other]);
});

Deno.test("fuseResidual leaves sums alone whose term somebody else reads, or that broadcast", () => {
  const dx = normGrad();
  assertEquals(fuseResidual([add(other, dx), dx])[0].op.name, "add");
  const wide = leaf("wide", { shape: [3, 2, 8], dtype: "f32" });
  assertEquals(fuseResidual([add(wide, dx)])[0].op.name, "add");
});
