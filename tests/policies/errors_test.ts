import { assertEquals, assertThrows } from "@std/assert";
import {
  after,
  allOf,
  anyOf,
  below,
  definePolicy,
  except,
  gradES,
  only,
  patience,
} from "../../policies/mod.ts";
import { COMPONENTS, lookOf, randomLook } from "./looks.ts";

const p = below("gradNorm", 1);
const run = { steps: 20 };

Deno.test("below wants a threshold that is a number above 0", () => {
  for (const tau of [0, -1, NaN, Infinity, "0.1" as unknown as number]) {
    assertThrows(() => below("gradNorm", tau), RangeError, `"tau" must be a number above 0: got ${tau}`);
  }
  assertThrows(() => gradES({ tau: 0 }), RangeError, `"tau"`);
});

Deno.test("below says so when there is no learning rate to normalise by", () => {
  const policy = below("weightDelta", 1, { normalise: "lr*size" });
  const look = lookOf({}, [3], [NaN]);
  assertThrows(() => policy.next(policy.init(COMPONENTS, run), look), RangeError, `of step 3 by "lr*size"`);
});

Deno.test("after wants a share between 0 and 1", () => {
  for (const alpha of [-0.1, 1.1, NaN]) {
    assertThrows(() => after(alpha, p), RangeError, `"alpha" is a share of all steps, 0 to 1: got ${alpha}`);
  }
});

Deno.test("patience wants a whole number above 0", () => {
  for (const k of [0, -1, 1.5, NaN]) {
    assertThrows(() => patience(k, p), RangeError, `"k" must be a whole number above 0: got ${k}`);
  }
});

Deno.test("anyOf and allOf want a policy", () => {
  assertThrows(() => anyOf(), TypeError, `"anyOf" as it was given none`);
  assertThrows(() => allOf(), TypeError, `"allOf" as it was given none`);
});

Deno.test("only and except name a glob without a match and the first component there is", () => {
  for (const narrow of [only, except]) {
    const message = `Cannot select components by "*.qproj" as none matches: the first is "embed_tokens"`;
    assertThrows(() => narrow("*.qproj", p).init(COMPONENTS, run), RangeError, message);
  }
  assertThrows(() => only("*", p).init([], run), RangeError, "there are none");
});

Deno.test("gradES says so when a model has no linear component in a layer", () => {
  const flat = COMPONENTS.map((c) => ({ ...c, layer: null }));
  assertThrows(() => gradES({ tau: 1 }).init(flat, run), RangeError, `"layerLinears" as none matches`);
});

Deno.test("only matches globs against whole paths and takes their dots for dots", () => {
  const matched = (glob: string) => {
    const paths: string[] = [];
    const spy = definePolicy({
      name: "spy",
      init: (components) => (components.forEach(({ path }) => paths.push(path)), []),
      next: (state) => state,
      frozen: () => [],
    });
    only(glob, spy).init([...COMPONENTS, { ...COMPONENTS[0], path: "a+b(c)" }], run);
    return paths;
  };
  assertEquals(matched("layers.1.*_proj"), ["layers.1.q_proj", "layers.1.up_proj"]);
  assertEquals(matched("lm_head"), ["lm_head"]);
  assertEquals(matched("a+b(*)"), ["a+b(c)"]);
  assertThrows(() => matched("q_proj"), RangeError);
  assertThrows(() => matched("layers.1.q.proj"), RangeError);
});

Deno.test("definePolicy refuses to read a signal that was not declared", () => {
  const policy = definePolicy({
    name: "careless",
    signals: ["gradNorm"],
    init: () => ({ low: false as boolean }),
    next: (_, { read }) => ({ low: read("weightDelta", "lm_head") < 1 }),
    frozen: () => [],
  });
  const message = `Cannot read "weightDelta" as "careless" does not declare it: its signals are [gradNorm]`;
  assertThrows(() => policy.next(policy.init(COMPONENTS, run), randomLook(1)), RangeError, message);
});
