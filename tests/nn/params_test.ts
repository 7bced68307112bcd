import { assertEquals } from "@std/assert";
import type { Tensor } from "@firn/train";
import {
  type Layers,
  linearParams,
  type LinearSpec,
  listParams,
  normal,
  ones,
  optional,
  type ParamsOf,
  repeat,
  stored,
  tiedTo,
  zeros,
} from "@firn/train/nn";

const declare = (size: number, bias: boolean) => ({
  layers: repeat(2, { up: linearParams([2 * size, size], { bias }) as LinearSpec }) as Layers<
    { up: LinearSpec }
  >,
  head: optional(bias, { weight: ones([size]) }),
});

Deno.test("listParams gives path, shape and initial value in the order of the declaration", () => {
  assertEquals(
    [...listParams(declare(4, true))].map(([path, { shape, init }]) => [path, shape, init]),
    [
      ["layers.0.up.weight", [8, 4], "normal"],
      ["layers.0.up.bias", [8], "zeros"],
      ["layers.1.up.weight", [8, 4], "normal"],
      ["layers.1.up.bias", [8], "zeros"],
      ["head.weight", [4], "ones"],
    ],
  );
});

Deno.test("optional leaves a part of the tree out", () => {
  const paths = [...listParams(declare(4, false)).keys()];
  assertEquals(paths, ["layers.0.up.weight", "layers.1.up.weight"]);
});

Deno.test("repeat counts layers by number, beyond ten as well", () => {
  const paths = [...listParams({ h: repeat(12, { w: zeros([1]) }) }).keys()];
  assertEquals(paths.slice(8), ["h.8.w", "h.9.w", "h.10.w", "h.11.w"]);
});

Deno.test("stored renames a leaf, a branch of every layer, and leaves a name out", () => {
  const spec = {
    model: stored("", {
      layers: stored("encoder.layer", repeat(2, { q: stored("self.query", { w: normal([1]) }) })),
    }),
    scale: stored("gamma", ones([1])),
  };
  assertEquals([...listParams(spec)].map(([path, { key }]) => [path, key]), [
    ["model.layers.0.q.w", "encoder.layer.0.self.query.w"],
    ["model.layers.1.q.w", "encoder.layer.1.self.query.w"],
    ["scale", "gamma"],
  ]);
});

Deno.test("tiedTo names for each parameter the one whose values it shares", () => {
  const spec = { table: { weight: normal([4, 2]) }, head: tiedTo("table", linearParams([4, 2])) };
  assertEquals([...listParams(spec)].map(([path, { tiedTo }]) => [path, tiedTo]), [
    ["table.weight", undefined],
    ["head.weight", "table.weight"],
  ]);
});

Deno.test("ParamsOf has a tensor for each declared parameter, and nothing else", () => {
  // This test checks types: it must compile, and the marked lines must not.
  const use = (params: ParamsOf<typeof declare>): readonly (Tensor | undefined)[] => [
    params.layers[0].up.weight,
    params.layers[0].up.bias,
    params.layers[0].up.lora_A?.weight,
    params.head?.weight,
    // @ts-expect-error there is no such layer
    params.layers[0].down,
    // @ts-expect-error the head may be absent
    () => params.head.weight,
  ];
  assertEquals(typeof use, "function");
});
