import { assert, assertEquals, assertThrows } from "@std/assert";
import { flatten, InputError, mapTree, type Tensor, tensor, type Tree, unflatten } from "@firn/train";
import { withLeaves } from "../../core/tree.ts";

const [a, b, c] = [tensor([1]), tensor([2]), tensor([3])];

Deno.test("flatten names leaves by dotted path in key order", () => {
  const leaves = flatten({ layers: { 0: { weight: a, bias: b } }, norm: c });
  assertEquals([...leaves.keys()], ["layers.0.weight", "layers.0.bias", "norm"]);
  assert(leaves.get("norm") === c);
});

Deno.test("flatten puts a prefix before every path", () => {
  assertEquals([...flatten({ weight: a }, "model").keys()], ["model.weight"]);
  assertEquals([...flatten(a, "weight").keys()], ["weight"]);
});

Deno.test("flatten skips keys that are undefined", () => {
  assertEquals([...flatten({ weight: a, bias: undefined }).keys()], ["weight"]);
});

Deno.test("flatten refuses what is neither tensor nor record", () => {
  const refuses = (tree: object, text: string): void => {
    assertThrows(() => flatten(tree as Tree), InputError, text);
  };
  refuses({ layer: { scale: 2 } }, 'Cannot flatten "layer.scale"');
  refuses({ name: "text" }, 'Cannot flatten "name" as a tree holds tensors and records: got "text"');
  refuses({ weight: null }, 'Cannot flatten "weight"');
  refuses({ layer: new Map([["weight", a]]) }, "got an object of the class Map");
  refuses({ layer: Promise.resolve(a) }, "got a Promise, which must be awaited first");
});

Deno.test("trees refuse lists, in types and at run time", () => {
  const tree = { norm: a, layers: [{ weight: b }, { weight: c }] };
  const text = "as a tree has no lists: got a list of 2; name its tensors, as in { 0: first, 1: second }";
  assertThrows(() => flatten(tree), InputError, `Cannot flatten "layers" ${text}`);
  assertThrows(() => mapTree(tree, (x) => x), InputError, `Cannot map "layers" ${text}`);
  // @ts-expect-error: a list is no tree
  assertThrows(() => flatten([a, b]), InputError, "Cannot flatten a tree as a tree has no lists");
  // @ts-expect-error: a list is no tree
  assertThrows(() => mapTree([a, b], (x) => x), InputError, "Cannot map a tree as a tree has no lists");
  // @ts-expect-error: nothing is made of a list in a tree
  assertThrows(() => mapTree(tree, (x) => x).layers[0].weight.shape, InputError);
});

Deno.test("flatten refuses a record that holds itself", () => {
  const layer: { weight: Tensor; self?: object } = { weight: a };
  layer.self = layer;
  assertThrows(
    () => flatten({ layer } as object as Tree),
    InputError,
    'Cannot flatten "layer.self" as a record of the tree holds itself',
  );
  assertEquals([...flatten({ one: { a }, two: { a } }).keys()], ["one.a", "two.a"]);
});

Deno.test("flatten refuses two tensors of one path", () => {
  assertThrows(() => flatten({ "a.b": a, a: { b } }), InputError, "two tensors have that path");
});

Deno.test("withLeaves puts other tensors into the places of a tree, and leaves out what is undefined", () => {
  const tree = { layers: { 1: { weight: a, bias: undefined }, 0: { weight: b } }, norm: c };
  const others = new Map([...flatten(tree).keys()].map((path, i) => [path, [c, a, b][i]]));
  const made = withLeaves(tree, others);
  assertEquals([...flatten(made)], [...others]);
  assertEquals(made, unflatten(others));
  assert(withLeaves(a, new Map([["", b]])) === b);
  const inherited = JSON.parse('{ "__proto__": { "weight": 0 } }');
  Object.defineProperty(inherited, "__proto__", { value: { weight: a }, enumerable: true });
  const own = withLeaves(inherited, new Map([["__proto__.weight", b]]));
  assertEquals(Object.getPrototypeOf(own), Object.prototype);
  assertEquals([...flatten(own)], [["__proto__.weight", b]]);
});

Deno.test("unflatten is the inverse of flatten", () => {
  const tree: Tree = { layers: { 0: { weight: a }, 1: { weight: b } }, norm: c };
  assertEquals(unflatten(flatten(tree)), tree);
  assert(unflatten(flatten(a)) === a);
});

Deno.test("unflatten refuses a path that is the prefix of another, in both orders", () => {
  const both: [string, Tensor][] = [["layer", a], ["layer.weight", b]];
  assertThrows(
    () => unflatten(new Map(both)),
    InputError,
    'Cannot unflatten "layer.weight" as a shorter path',
  );
  assertThrows(
    () => unflatten(new Map(both.toReversed())),
    InputError,
    'Cannot unflatten "layer" as it holds',
  );
});

Deno.test("unflatten takes paths that name what every object inherits", () => {
  const paths = ["constructor.weight", "__proto__.weight", "toString"];
  const tree = unflatten(new Map(paths.map((path) => [path, a])));
  assertEquals([...flatten(tree).keys()], paths);
  assert(!("weight" in {}));
});

Deno.test("mapTree replaces every tensor by its path and keeps keys and their order", () => {
  const tree = { layers: { 0: { weight: a, bias: b } }, norm: c };
  const paths = mapTree(tree, (_, path) => path);
  assertEquals(paths, { layers: { 0: { weight: "layers.0.weight", bias: "layers.0.bias" } }, norm: "norm" });
  assertEquals([...flatten(mapTree(tree, () => c)).keys()], [...flatten(tree).keys()]);
  assertEquals(mapTree(a, (tensor, path) => [tensor, path] as const), [a, ""]);
});

Deno.test("mapTree keeps the type of a tree", () => {
  const tree: { readonly layer: { readonly weight: Tensor; readonly bias?: Tensor } } = {
    layer: { weight: a },
  };
  const same: typeof tree = mapTree(tree, (tensor) => tensor);
  assert(same.layer.weight === a && same.layer.bias === undefined);
  const sizes: { readonly layer: { readonly weight: number; readonly bias?: number } } = mapTree(
    { layer: { weight: a, bias: undefined } } as typeof tree,
    ({ shape }) => shape[0],
  );
  assertEquals(sizes, { layer: { weight: 1, bias: undefined } });
  // @ts-expect-error: a tree of numbers has no tensors
  const wrong: typeof tree = mapTree(tree, () => 1);
  assert(wrong !== null);
});

Deno.test("mapTree refuses what is neither tensor nor record", () => {
  assertThrows(() => mapTree({ layer: { scale: 2 } }, (x) => x), InputError, 'Cannot map "layer.scale"');
});
