import { assert, assertEquals, assertThrows } from "@std/assert";
import { add, InputError, leaf, multiply } from "@firn/train";
import { linearCrossEntropy, rmsNorm } from "@firn/train/ops";
import { topological } from "../../core/graph.ts";
import { apply, type Op, pick } from "../../core/tensor.ts";
import { expandDefinitions } from "../../core/plan/rewrite/expand_definitions.ts";

const x = leaf("x", { shape: [4], dtype: "f32" });
const infer: Op<null>["infer"] = ([{ shape }]) => [{ shape, dtype: "f32" }, { shape, dtype: "f32" }];
const inner: Op<null> = { name: "inner", infer, definition: ([x]) => [add(x, 1), multiply(x, 2)] };
const outer: Op<null> = {
  name: "outer",
  infer,
  definition: ([x]) => [pick(apply(inner, [x], null), 1), apply(inner, [x], null)],
};

Deno.test("expandDefinitions replaces ops by their definitions, and those by theirs, output by output", () => {
  const node = apply(outer, [x], null);
  const [first, second] = expandDefinitions([node, pick(node, 1)]);
  assertEquals([first.op.name, second.op.name], ["multiply", "add"]);
  assert(topological([first, second]).every(({ op }) => op.name !== "inner" && op.name !== "outer"));
});

Deno.test("expandDefinitions keeps an op that has a kernel, whatever its definition is", () => {
  const gain = leaf("gain", { shape: [4], dtype: "f32" });
  const node = rmsNorm(x, gain, { eps: 1e-5 });
  assert(expandDefinitions([node])[0] === node);
  const weight = leaf("w", { shape: [8, 4], dtype: "f32" }), labels = leaf("y", { shape: [2], dtype: "i32" });
  const [loss] = expandDefinitions([
    linearCrossEntropy(leaf("h", { shape: [2, 4], dtype: "f32" }), { weight, labels }),
  ]);
  const names = topological([loss]).map(({ op }) => op.name);
  assertEquals([names.includes("linearCrossEntropy"), names.includes("crossEntropy")], [false, true]);
});

Deno.test("expandDefinitions refuses an op that nothing computes", () => {
  const op: Op<null> = { name: "bare", infer };
  assertThrows(
    () => expandDefinitions([apply(op, [x], null)]),
    InputError,
    'Cannot plan "bare" as it has neither a kernel nor a definition',
  );
});
