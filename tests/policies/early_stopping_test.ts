import { InputError } from "@firn/train";
import { assertEquals, assertThrows } from "@std/assert";
import type { FreezePolicy } from "../../core/policy.ts";
import { after, anyOf, earlyStopping, type EarlyStoppingOptions, gradES, only } from "../../policies/mod.ts";
import { COMPONENTS, ends, lookOf, STEPS } from "./looks.ts";

/** The step after which training stops, or null, and the best step at the end. */
function outcome(
  policy: FreezePolicy,
  validation: readonly number[],
): { end: number | null; best: number | null } {
  let state = policy.init(COMPONENTS, { steps: STEPS }), end: number | null = null;
  validation.forEach((loss, i) => {
    state = policy.next(state, { ...lookOf({}, [i + 1]), validation: [loss] });
    if (ends(policy, state)) end ??= i + 1;
  });
  return { end, best: policy.best?.(state) ?? null };
}

function run(
  options: EarlyStoppingOptions,
  validation: readonly number[],
): { end: number | null; best: number | null } {
  return outcome(earlyStopping(options), validation);
}

Deno.test("earlyStopping ends after as many validations without an improvement as it is patient", () => {
  const losses = [3, 2, 2.5, 2.2, 2.1, 2.05];
  assertEquals(run({ patience: 1 }, losses), { end: 3, best: 2 });
  assertEquals(run({ patience: 3 }, losses), { end: 5, best: 2 });
  assertEquals(run({}, losses), { end: 5, best: 2 });
  assertEquals(run({ patience: 5 }, losses), { end: null, best: 2 });
});

Deno.test("earlyStopping begins to count again at each improvement", () => {
  assertEquals(run({ patience: 2 }, [3, 3.1, 2, 2.1, 1, 1.1, 1.2]), { end: 7, best: 5 });
});

Deno.test("earlyStopping counts only a fall by more than minDelta, from the last that was one", () => {
  const creeping = [1, 0.9, 0.8, 0.7, 0.6];
  assertEquals(run({ patience: 2, minDelta: 0.15 }, creeping).end, null); // 0.8 and 0.6 are improvements
  assertEquals(run({ patience: 2, minDelta: 0.25 }, creeping).end, 3);
  assertEquals(run({ patience: 1, minDelta: 0 }, [1, 1]).end, 2);
  assertEquals(run({ patience: 1 }, [1, 1 - 4e-4]).end, 2);
  assertEquals(run({ patience: 1 }, [1, 1 - 6e-4]).end, null);
});

Deno.test("earlyStopping calls the step of the lowest loss the best, also below minDelta", () => {
  assertEquals(run({ patience: 2, minDelta: 0.25 }, [1, 0.9, 0.95]), { end: 3, best: 2 });
});

Deno.test("earlyStopping skips steps without a validation, and losses that are not numbers", () => {
  assertEquals(run({ patience: 2 }, [NaN, 3, NaN, NaN, 4, NaN, Infinity, 5]), { end: 8, best: 2 });
  assertEquals(run({}, [NaN, NaN]), { end: null, best: null });
});

Deno.test("earlyStopping stays ended, and its best step stays", () => {
  const policy = earlyStopping({ patience: 1 });
  const look = { ...lookOf({}, [1, 2, 3, 4]), validation: [3, 4, 1, 0] };
  const state = policy.next(policy.init(COMPONENTS, { steps: STEPS }), look);
  assertEquals([ends(policy, state), policy.best!(state)], [true, 1]);
});

Deno.test("earlyStopping keeps the last parameters when it is told to", () => {
  const policy = earlyStopping({ restoreBest: false });
  assertEquals([policy.best, policy.frozen(policy.init([], { steps: 1 }))], [undefined, []]);
});

Deno.test("earlyStopping ends training beside and within other policies", () => {
  const losses = [1, 2, 3, 4, 5];
  const both = anyOf(gradES({ tau: 1, metric: "gradNorm" }), earlyStopping());
  assertEquals(outcome(both, losses), { end: 4, best: 1 });
  assertEquals(outcome(only("layers.*", both), losses), { end: 4, best: 1 });
  // The grace period of 2 steps hides the first two validations.
  assertEquals(outcome(after(0.1, earlyStopping({ patience: 1 })), losses), { end: 4, best: 3 });
});

Deno.test("earlyStopping says what is missing when training does not validate", () => {
  const policy = earlyStopping(), start = policy.init([], { steps: 5 });
  const message =
    `Cannot stop early in step 4 as training has no validation data: give it batches as "validation"`;
  assertThrows(() => policy.next(start, lookOf({}, [4])), InputError, message);
});

Deno.test("earlyStopping wants a patience and a minDelta in their ranges", () => {
  for (const patience of [0, 1.5, NaN]) {
    assertThrows(
      () => earlyStopping({ patience }),
      InputError,
      `"patience" must be a whole number above 0: got ${patience}`,
    );
  }
  for (const minDelta of [-1, NaN, Infinity]) {
    assertThrows(
      () => earlyStopping({ minDelta }),
      InputError,
      `"minDelta" must be a number, 0 or more: got ${minDelta}`,
    );
  }
});

Deno.test("earlyStopping's name says how it decides", () => {
  assertEquals(earlyStopping().name, "earlyStopping(patience 3, minDelta 0.0005, restore best)");
  assertEquals(
    earlyStopping({ restoreBest: false }).name,
    "earlyStopping(patience 3, minDelta 0.0005, keep last)",
  );
});
