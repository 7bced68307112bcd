/** Policies that freeze at one end, and BitFit. */

import { flatten, InputError, tensor } from "@firn/train";
import { assertEquals, assertThrows } from "@std/assert";
import { bitFit, bottomFreeze, topFreeze } from "../../policies/mod.ts";
import { COMPONENTS, frozenSets, lookOf } from "./looks.ts";

const run = { steps: 20 };

Deno.test("bottomFreeze freezes what is below the layers too, topFreeze leaves what is above them", () => {
  const after = (policy: ReturnType<typeof topFreeze>) => frozenSets(policy, lookOf({}, [1]))[1];
  const layer = (n: number) => ["input_norm", "q_proj", "up_proj"].map((name) => `layers.${n}.${name}`);
  assertEquals(after(bottomFreeze(0.5)), ["embed_tokens", ...layer(0)]);
  assertEquals(after(topFreeze(0.5)), layer(1));
  assertEquals(after(bottomFreeze(1)), ["embed_tokens", ...layer(0), ...layer(1)]);
  assertEquals(after(topFreeze(1)), [...layer(0), ...layer(1)]);
});

Deno.test("a share of the layers is rounded, and one that is no layer is refused", () => {
  const layers = Array.from({ length: 5 }, (_, n) => ({ ...COMPONENTS[1], path: `${n}`, layer: n }));
  const count = (share: number) => bottomFreeze(share).frozen(bottomFreeze(share).init(layers, run)).length;
  assertEquals([0.1, 0.3, 0.5, 0.7].map(count), [1, 2, 3, 4]); // 0.5, 1.5, 2.5 and 3.5 layers
  for (const freeze of [bottomFreeze, topFreeze]) {
    assertThrows(() => freeze(0.09).init(layers, run), InputError, "0.09 of 5 is none");
    for (const share of [0, -0.1, 1.1, NaN]) {
      assertThrows(() => freeze(share), InputError, `"share" must be above 0 and at most 1: got ${share}`);
    }
  }
});

Deno.test("bitFit trains biases, on request gains and a head, and says when there is nothing to train", () => {
  const matrix = tensor([1, 2, 3, 4], [2, 2]), vector = tensor([1, 2]);
  const params = { a: { weight: matrix, bias: vector }, norm: { weight: vector }, head: { weight: matrix } };
  const paths = ["a.weight", "a.bias", "norm.weight", "head.weight"];
  const trained = (options: Parameters<typeof bitFit>[1]) => paths.filter(bitFit(flatten(params), options));
  assertEquals(trained({}), ["a.bias"]);
  assertEquals(trained({ norms: true }), ["a.bias", "norm.weight"]);
  assertEquals(trained({ also: (path) => path.startsWith("head") }), ["a.bias", "head.weight"]);
  const bare = { norm: { weight: vector }, up: { weight: matrix } };
  assertThrows(
    () => bitFit(flatten(bare)),
    InputError,
    `must have a bias: it has none among 2 parameters; give "norms"`,
  );
  assertThrows(
    () => bitFit(flatten({ up: { weight: matrix } }), { norms: true }),
    InputError,
    "a parameter of one axis",
  );
});
