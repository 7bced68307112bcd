import { InputError } from "@firn/train";
import { assertEquals, assertThrows } from "@std/assert";
import {
  after,
  allOf,
  anyOf,
  atMost,
  below,
  closePrefix,
  definePolicy,
  every,
  except,
  gradES,
  hysteresis,
  keepActive,
  only,
  patience,
  prefix,
  randomSubset,
  rotate,
  schedule,
  smooth,
  stopAt,
  type Threshold,
} from "../../policies/mod.ts";
import { COMPONENTS, lookOf, randomLook } from "./looks.ts";

const p = below("gradNorm", 1);
const run = { steps: 20 };

Deno.test("below wants a threshold that is a number above 0", () => {
  for (const tau of [0, -1, NaN, Infinity, "0.1" as unknown as number]) {
    assertThrows(() => below("gradNorm", tau), InputError, `"tau" must be a number above 0: got ${tau}`);
  }
  assertThrows(() => gradES({ tau: 0 }), InputError, `"tau"`);
});

Deno.test("below names what its thresholds leave out, and what they name in vain", () => {
  const start = (tau: Threshold) => below("gradNorm", tau).init(COMPONENTS, run);
  const message =
    `Cannot compare "embed_tokens" with a threshold as it matches none of "layers.*", "lm_*": add "*"`;
  assertThrows(() => start({ "layers.*": 1, "lm_*": 2 }), InputError, message);
  assertThrows(() => start({ "layer.*": 1, "*": 2 }), InputError, `"layer.*" as none matches`);
  assertThrows(() => start({}), InputError, `"tau" is empty: add "*"`);
  assertThrows(() => start({ "*": 0 }), InputError, `"tau" of "*" must be a number above 0: got 0`);
});

Deno.test("below says so when there is no learning rate to normalise by", () => {
  const policy = below("weightDelta", 1, { normalise: "lr*size" });
  const look = lookOf({}, [3], [NaN]);
  assertThrows(() => policy.next(policy.init(COMPONENTS, run), look), InputError, `of step 3 by "lr*size"`);
});

Deno.test("after wants a share between 0 and 1", () => {
  for (const alpha of [-0.1, 1.1, NaN]) {
    assertThrows(() => after(alpha, p), InputError, `"alpha" is a share of all steps, 0 to 1: got ${alpha}`);
  }
});

Deno.test("patience wants a whole number above 0", () => {
  for (const k of [0, -1, 1.5, NaN]) {
    assertThrows(() => patience(k, p), InputError, `"k" must be a whole number above 0: got ${k}`);
  }
});

Deno.test("anyOf and allOf want a policy", () => {
  assertThrows(() => anyOf(), InputError, `"anyOf" as it was given none`);
  assertThrows(() => allOf(), InputError, `"allOf" as it was given none`);
});

Deno.test("what takes a share says of what, and what it got", () => {
  for (const share of [-0.1, 1.1, NaN]) {
    const got = `0 to 1: got ${share}`;
    assertThrows(
      () => atMost(share, p),
      InputError,
      `Cannot bound "${p.name}" as "share" is a share of the elements, ${got}`,
    );
    assertThrows(() => atMost(share, p, { of: "components" }), InputError, `of the components, ${got}`);
    assertThrows(
      () => randomSubset({ share, every: 1 }),
      InputError,
      `"share" is a share of the components, ${got}`,
    );
    assertThrows(() => schedule({ first: share }), InputError, `"first" is a share of all steps, ${got}`);
  }
  for (const share of [0, -0.1, 1.1, NaN]) {
    const got = `must be above 0 and at most 1: got ${share}`;
    assertThrows(
      () => smooth(share, p),
      InputError,
      `Cannot smooth what "${p.name}" reads as "weight" ${got}`,
    );
    assertThrows(() => closePrefix(p, { share }), InputError, `the prefix of "${p.name}" as "share" ${got}`);
  }
});

Deno.test("what counts wants a whole number above 0", () => {
  for (const n of [0, -1, 1.5, NaN]) {
    const message = (name: string) => `"${name}" must be a whole number above 0: got ${n}`;
    assertThrows(() => every(n, p), InputError, `Cannot ask "${p.name}" every n steps as ${message("n")}`);
    assertThrows(() => stopAt(n), InputError, message("step"));
    assertThrows(() => randomSubset({ share: 0.5, every: n }), InputError, message("every"));
    assertThrows(() => rotate({ every: n }), InputError, message("every"));
    assertThrows(() => rotate({ every: 1, active: n }), InputError, message("active"));
    assertThrows(() => prefix({ intervals: n }), InputError, message("intervals"));
  }
});

Deno.test("what draws at random wants a whole number as its seed", () => {
  for (const seed of [0.5, NaN, Infinity]) {
    const message = `"seed" must be a whole number: got ${seed}`;
    assertThrows(() => randomSubset({ share: 0.5, every: 1, seed }), InputError, message);
    assertThrows(() => rotate({ every: 1, seed }), InputError, message);
  }
});

Deno.test("prefix wants a percentile between 0 and 100", () => {
  for (const percentile of [-1, 101, NaN]) {
    assertThrows(
      () => prefix({ percentile }),
      InputError,
      `"percentile" must be 0 to 100: got ${percentile}`,
    );
  }
});

Deno.test("hysteresis wants two thresholds in order", () => {
  const message = `Cannot thaw by "gradNorm" as "high" must be at least "low", 0.2: got 0.1`;
  assertThrows(() => hysteresis("gradNorm", { low: 0.2, high: 0.1 }), InputError, message);
  const above = (name: string): string => `"${name}" must be a number above 0: got 0`;
  assertThrows(() => hysteresis("gradNorm", { low: 0, high: 0.1 }), InputError, above("low"));
  assertThrows(() => hysteresis("gradNorm", { low: 0.1, high: 0 }), InputError, above("high"));
});

Deno.test("rotate says how many blocks there are", () => {
  const message = `Cannot rotate 5 blocks at a time as the model has 4: lower "active"`;
  assertThrows(() => rotate({ every: 1, active: 5 }).init(COMPONENTS, run), InputError, message);
});

Deno.test("keepActive and rotate name a selector without a match", () => {
  const message = `Cannot select components by "last" as none matches: the first is "embed_tokens"`;
  assertThrows(() => keepActive("last", p).init(COMPONENTS, run), InputError, message);
  assertThrows(() => rotate({ every: 1, always: "last" }).init(COMPONENTS, run), InputError, message);
});

Deno.test("only and except name a glob without a match and the first component there is", () => {
  for (const narrow of [only, except]) {
    const message = `Cannot select components by "*.qproj" as none matches: the first is "embed_tokens"`;
    assertThrows(() => narrow("*.qproj", p).init(COMPONENTS, run), InputError, message);
  }
  assertThrows(() => only("*", p).init([], run), InputError, "there are none");
});

Deno.test("gradES says so when a model has no linear component in a layer", () => {
  const flat = COMPONENTS.map((c) => ({ ...c, layer: null }));
  assertThrows(() => gradES({ tau: 1 }).init(flat, run), InputError, `"layerLinears" as none matches`);
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
  assertThrows(() => matched("q_proj"), InputError);
  assertThrows(() => matched("layers.1.q.proj"), InputError);
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
  assertThrows(() => policy.next(policy.init(COMPONENTS, run), randomLook(1)), InputError, message);
});
