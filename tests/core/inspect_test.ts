import { assertEquals, assertStringIncludes } from "@std/assert";
import { grad, leaf, multiply, reshape, sum, type Tensor, tensor } from "@firn/train";
import { rebuild } from "../../core/graph.ts";
import { resident } from "../../core/runtime/residents.ts";

const weight = leaf("layer.weight", { shape: [2, 3], dtype: "f32" });
const deep = Array.from({ length: 30 }).reduce<Tensor>((x) => multiply(x, x), weight);

Deno.test("a tensor prints its path or its operation, its type and its shape, in one line", () => {
  assertEquals(Deno.inspect(weight), 'Tensor "layer.weight" f32 [2, 3]');
  assertEquals(Deno.inspect(deep), "Tensor multiply f32 [2, 3]");
  assertEquals(Deno.inspect(tensor(new Int32Array([1]), [])), "Tensor host i32 []");
});

Deno.test("gradients and rebuilt nodes print in one line as well", () => {
  const [slope] = grad(sum(deep), [weight]);
  assertEquals(Deno.inspect(slope).split("\n").length, 1);
  const other = leaf("other", { shape: [2, 3], dtype: "f32" });
  const [moved] = rebuild([reshape(weight, [6])], (node) => node === weight ? other : node);
  assertEquals(moved.inputs[0], other);
  assertEquals(Deno.inspect(moved), "Tensor reshape f32 [6]");
});

Deno.test("a tensor on the device prints the name of its parameter", () => {
  const storage = { buffer: null as unknown as GPUBuffer, label: "norm.weight", producedAt: 0 };
  assertEquals(
    Deno.inspect(resident({ shape: [4], dtype: "bf16" }, storage)),
    'Tensor "norm.weight" bf16 [4]',
  );
});

Deno.test("trees and states print a line for each tensor", () => {
  assertEquals(
    Deno.inspect({ layer: { weight, bias: leaf("layer.bias", { shape: [3], dtype: "f32" }) } }),
    '{\n  layer: {\n    weight: Tensor "layer.weight" f32 [2, 3],\n    bias: Tensor "layer.bias" f32 [3]\n  }\n}',
  );
  const state = { step: 3, params: { weight }, loss: sum(deep), leaves: new Map([["m.layer.weight", deep]]) };
  const printed = Deno.inspect(state);
  assertStringIncludes(printed, "loss: Tensor reshape f32 []");
  assertStringIncludes(printed, '"m.layer.weight" => Tensor multiply f32 [2, 3]');
  assertEquals(printed.includes("inputs"), false);
});

Deno.test("a notebook shows the same line", () => {
  const display = (weight as unknown as Record<symbol, () => unknown>)[Symbol.for("Jupyter.display")];
  assertEquals(display.call(weight), { "text/plain": 'Tensor "layer.weight" f32 [2, 3]' });
});

Deno.test("printing adds nothing to the keys and the JSON of a tensor, and equal tensors stay equal", () => {
  assertEquals(Object.keys(weight), ["op", "inputs", "attrs", "shape", "dtype"]);
  assertEquals(Object.keys(JSON.parse(JSON.stringify(weight))), ["op", "inputs", "attrs", "shape", "dtype"]);
  assertEquals(multiply(weight, 2), multiply(weight, 2));
});
