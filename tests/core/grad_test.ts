import { assert, assertEquals, assertThrows } from "@std/assert";
import { grad, InputError, leaf, sum, type Tensor } from "@firn/train";
import {
  add,
  apply,
  exp,
  less,
  matmul,
  multiply,
  nextLabels,
  type Op,
  pick,
  rotary,
  sign,
  where,
} from "@firn/train/ops";
import { constant } from "../../core/plan/predicates.ts";
import { topological } from "../../core/graph.ts";
import { evaluate } from "../reference/evaluate.ts";
import { build } from "../reference/values.ts";

const vector = (path: string): Tensor => leaf(path, { shape: [3], dtype: "f32" });
const matrix = (path: string): Tensor => leaf(path, { shape: [3, 3], dtype: "f32" });

/** Two layers: products of a weight each. */
function chain() {
  const [x, first, second] = [matrix("x"), matrix("first"), matrix("second")];
  return { x, first, second, loss: sum(matmul(matmul(x, first), second)) };
}

/** Matrix products that the roots need. */
function products(roots: readonly Tensor[]): number {
  return topological(roots).filter((node) => node.op.name === "matmul").length;
}

Deno.test("grad has one product for each wanted weight and one for each layer above the lowest", () => {
  const { x, first, second, loss } = chain();
  assertEquals(products([loss]), 2);
  const beyond = (wanted: Tensor[]): number => products([loss, ...grad(loss, wanted)]) - 2;
  assertEquals(beyond([first, second]), 3);
  assertEquals(beyond([second]), 1);
  assertEquals(beyond([first]), 2);
  assertEquals(beyond([x, first, second]), 4);
});

Deno.test("grad never calls the pullbacks of inputs that lead to nothing wanted", () => {
  const { second, loss } = chain();
  const made = topological(grad(loss, [second]));
  // The first product is read, as a value; nothing but it reads the leaves below.
  const readers = made.filter(({ inputs }) =>
    inputs.some((i) => (i.attrs as { path?: string } | null)?.path === "first")
  );
  assertEquals(readers.map(({ op }) => op.name), ["matmul"]);
});

Deno.test("grad by an inner node stops there", () => {
  const x = vector("x");
  const inner = exp(x);
  const [slope] = grad(sum(multiply(inner, inner)), [inner]);
  assert(!topological([slope]).some((node) => node.op.name === "multiply" && node.inputs.includes(x)));
  assertEquals(slope.shape, [3]);
});

Deno.test("grad adds up the paths through a shared node before it goes further", () => {
  const x = vector("x");
  const shared = exp(x);
  const [slope] = grad(sum(add(multiply(shared, vector("a")), multiply(shared, vector("b")))), [x]);
  // exp' = exp: one product with its value for both paths.
  assertEquals(topological([slope]).filter((node) => node.inputs.includes(shared)).length, 1);
});

Deno.test("grad by what the loss does not depend on is a zero of its shape", () => {
  const [slope] = grad(sum(vector("x")), [matrix("unused")]);
  assertEquals(slope.shape, [3, 3]);
  assertEquals(constant(slope), 0);
});

Deno.test("grad by the loss itself is one", () => {
  const loss = sum(vector("x"));
  assertEquals(constant(grad(loss, [loss])[0]), 1);
});

Deno.test("grad gives the gradients in the order of the wanted nodes, repeats included", () => {
  const [x, y] = [vector("x"), matrix("y")];
  const slopes = grad(add(sum(x), sum(y)), [y, x, y]);
  assertEquals(slopes.map(({ shape }) => shape), [[3, 3], [3], [3, 3]]);
});

Deno.test("grad passes nothing through comparisons, signs and conditions", () => {
  const x = vector("x");
  assertEquals(constant(grad(sum(add(less(x, 0), sign(x))), [x])[0]), 0);
  const [slope] = grad(sum(where(less(x, 0), 0, x)), [x]);
  assertEquals(slope.op.name, "where");
});

Deno.test("grad refuses a loss that is not a scalar", () => {
  assertThrows(
    () => grad(vector("x"), []),
    InputError,
    'Cannot differentiate "leaf" as a loss is a scalar: got [3]',
  );
});

Deno.test("grad refuses an input that has no gradient, and names op and input", () => {
  const x = leaf("x", { shape: [1, 2, 1, 2], dtype: "f32" }),
    cos = leaf("cos", { shape: [2, 1], dtype: "f32" });
  const y = rotary(x, { cos, sin: leaf("sin", cos) });
  assertThrows(
    () => grad(sum(y), [cos]),
    InputError,
    'Cannot differentiate "rotary" as it has no gradient for input 1',
  );
  assertEquals(grad(sum(y), [x]).length, 1);
  const labels = leaf("labels", { shape: [1, 3], dtype: "i32" });
  assertThrows(() => grad(sum(nextLabels(labels)), [labels]), InputError, '"nextLabels"');
});

Deno.test("grad differentiates an op without pullbacks, and its further outputs, through the definition", () => {
  const op: Op<null> = {
    name: "both",
    infer: ([x]) => [x, x].map(({ shape }) => ({ shape, dtype: "f32" })),
    definition: ([a, b]) => [multiply(a, a), multiply(exp(a), b)],
  };
  const x = vector("x");
  // The second input is the first one in another role: both parts must count once.
  const y = apply(op, [x, multiply(2, x)], null);
  const slopes = [y, pick(y, 1)].map((output) => grad(sum(output), [x])[0]);
  const [first, second] = evaluate(slopes, new Map([["x", build([3], ([i]) => i)]]));
  assertEquals([...first.data], [0, 2, 4]);
  assertEquals([...second.data], [0, 1, 2].map((a) => Math.exp(a) * 2 * a + 2 * Math.exp(a)));
  assertThrows(
    () =>
      grad(sum(pick(apply({ ...op, definition: undefined, pullbacks: [() => x] }, [x, x], null), 1)), [x]),
    InputError,
    'Cannot differentiate output 1 of "both" as the op has no definition',
  );
});
