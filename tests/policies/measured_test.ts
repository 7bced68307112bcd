/** Of which components policies want their signals measured. */

import { InputError } from "@firn/train";
import { assertEquals, assertThrows } from "@std/assert";
import { type AnySignal, type FreezePolicy, type Look, signalName } from "../../core/policy.ts";
import {
  after,
  allOf,
  anyOf,
  atMost,
  below,
  closePrefix,
  definePolicy,
  earlyStopping,
  every,
  except,
  gradES,
  keepActive,
  only,
  patience,
  prefix,
  smooth,
  snr,
  sticky,
  stopAt,
  thaw,
  untilFrozen,
  wrapPolicy,
} from "../../policies/mod.ts";
import { COMPONENTS, PATHS, randomLook, statesOf } from "./looks.ts";
import { POLICIES } from "./table.ts";

/** What training measures of a signal for a policy. */
function measured(policy: FreezePolicy, signal: AnySignal): readonly string[] {
  if (!policy.signals.includes(signal)) return [];
  const wanted = policy.measured?.(signal, COMPONENTS) ?? PATHS;
  return PATHS.filter((path) => wanted.includes(path));
}

/** A look in which nothing is read that a policy does not want measured. */
function shownTo(policy: FreezePolicy, look: Look): Look {
  const readings = Object.entries(look.readings).map(([name, values]) => {
    const signal = policy.signals.find((one) => signalName(one) === name),
      wanted = signal === undefined ? [] : measured(policy, signal);
    return [
      name,
      Object.fromEntries(
        Object.entries(values).map(([path, of]) => [path, wanted.includes(path) ? of : of.map(() => NaN)]),
      ),
    ];
  });
  return { ...look, readings: Object.fromEntries(readings) };
}

Deno.test("every policy decides by what it wants measured as if all were", () => {
  for (const policy of POLICIES) {
    const decided = (look: Look) =>
      statesOf(policy, look).map((state) => ({
        frozen: policy.frozen(state),
        probed: policy.probed?.(state),
        stopped: policy.stopped?.(state, policy.frozen(state)),
        best: policy.best?.(state),
        reasons: PATHS.map((path) => policy.reason?.(state, path)),
      }));
    for (const seed of [1, 2, 3]) {
      const look = randomLook(seed);
      assertEquals(decided(shownTo(policy, look)), decided(look), policy.name);
    }
  }
});

Deno.test("every policy wants readings of components that there are, each once", () => {
  for (const policy of POLICIES) {
    for (const signal of policy.signals) {
      const wanted = policy.measured?.(signal, COMPONENTS) ?? PATHS;
      assertEquals([...wanted].sort(), [...measured(policy, signal)].sort(), policy.name);
    }
  }
});

const Q = ["layers.0.q_proj", "layers.1.q_proj"], HEAD = ["lm_head"];
const norm = below("gradNorm", 1), delta = below("gradDelta", 1);

Deno.test("only and except want readings of what they show their policy", () => {
  assertEquals(measured(only("*.q_proj", norm), "gradNorm"), Q);
  assertEquals(measured(except("*.q_proj", norm), "gradNorm"), PATHS.filter((path) => !Q.includes(path)));
  assertEquals(measured(only("*.q_proj", norm), "gradDelta"), []);
});

Deno.test("only within only, and except within only, want readings of what both show", () => {
  assertEquals(measured(only("layers.1.*", only("*.q_proj", norm)), "gradNorm"), [Q[1]]);
  assertEquals(measured(only("*.q_proj", only("layers.1.*", norm)), "gradNorm"), [Q[1]]);
  assertEquals(measured(only("*.q_proj", except("layers.1.*", norm)), "gradNorm"), [Q[0]]);
});

Deno.test("only wants no reading of what it hides, though its policy asks for it", () => {
  const greedy = definePolicy({
    name: "greedy",
    signals: ["gradNorm"],
    measured: () => PATHS,
    init: () => 0,
    next: (state) => state,
    frozen: () => [],
  });
  assertEquals(measured(greedy, "gradNorm"), PATHS);
  assertEquals(measured(only("*.q_proj", greedy), "gradNorm"), Q);
});

Deno.test("measured of only throws when no component matches, as its init does", () => {
  assertThrows(() => only("*.qproj", norm).measured!("gradNorm", COMPONENTS), InputError, '"*.qproj"');
});

for (const [name, combine] of Object.entries({ anyOf, allOf })) {
  Deno.test(`${name} wants what one of its policies wants that declares the signal`, () => {
    const policy = combine(
      only("*.q_proj", norm),
      only("lm_head", delta),
      only("layers.0.*", delta),
      stopAt(3),
    );
    assertEquals(measured(policy, "gradNorm"), Q);
    const layer = PATHS.filter((path) => path.startsWith("layers.0."));
    assertEquals(measured(policy, "gradDelta"), [...layer, ...HEAD]);
    assertEquals(measured(combine(only("*.q_proj", norm), norm), "gradNorm"), PATHS);
    assertEquals(combine(norm, delta).measured, undefined);
  });
}

Deno.test("wrappers want what their policy wants, and nothing more", () => {
  const inner = only("*.q_proj", norm);
  const wrapped = [
    after(0.5, inner),
    atMost(0.5, inner),
    closePrefix(inner),
    every(2, inner),
    keepActive("lm_head", inner),
    patience(2, inner),
    smooth(0.5, inner),
    sticky(inner),
    untilFrozen(inner),
  ];
  for (const policy of wrapped) assertEquals(measured(policy, "gradNorm"), Q, policy.name);
  for (const policy of [sticky(norm), patience(2, norm)]) assertEquals(policy.measured, undefined);
});

Deno.test("wrapPolicy wants its own signals of all components, unless it says of which", () => {
  const inner = only("*.q_proj", norm),
    rest = { next: (state: { inner: number }) => state, frozen: () => [] };
  const own = { name: "own", signals: ["gradNorm", "benefit"], init: () => ({ inner: 0 }), ...rest } as const;
  assertEquals([measured(wrapPolicy(inner, own), "gradNorm"), measured(wrapPolicy(inner, own), "benefit")], [
    PATHS,
    PATHS,
  ]);
  assertEquals(measured(wrapPolicy(inner, { ...own, measured: () => HEAD }), "benefit"), HEAD);
});

Deno.test("thaw wants gradNorm of all that it is shown, as it probes what is frozen, and its policy's other signals", () => {
  const policy = thaw(only("*.q_proj", sticky(delta)));
  assertEquals([measured(policy, "gradNorm"), measured(policy, "gradDelta")], [PATHS, Q]);
  const narrow = only("*.q_proj", thaw(sticky(delta)));
  assertEquals([measured(narrow, "gradNorm"), measured(narrow, "gradDelta")], [Q, Q]);
  assertEquals(measured(thaw(stopAt(3)), "gradNorm"), PATHS);
});

Deno.test("prefix wants readings of layers, gradES and snr of what they judge, earlyStopping and stopAt none", () => {
  const layers = PATHS.filter((path) => path.startsWith("layers."));
  const linears = layers.filter((path) => path.endsWith("_proj"));
  assertEquals(measured(prefix(), "gradNorm"), layers);
  assertEquals(measured(gradES({ tau: 1, metric: "gradDelta" }), "gradDelta"), linears);
  assertEquals(measured(gradES({ tau: 1, components: "*" }), "gradNorm"), PATHS);
  for (const signal of snr().signals) assertEquals(measured(snr(), signal), linears);
  assertEquals([earlyStopping().signals, stopAt(3).signals], [[], []]);
});
