import { InputError } from "@firn/train";
import { assert, assertEquals, assertThrows } from "@std/assert";
import type { FreezePolicy, Json, Look } from "../../core/policy.ts";
import {
  after,
  anyOf,
  below,
  definePolicy,
  gradES,
  patience,
  rotate,
  sticky,
  thaw,
  type ThawOptions,
  untilFrozen,
} from "../../policies/mod.ts";
import { component, ends, lookOf } from "./looks.ts";

const NAMES = ["a", "b", "c", "d", "e"];

interface Run {
  readonly names?: readonly string[];
  /** `gradNorm` of a component at a step, were it measured. */
  readonly truth: (path: string, step: number) => number;
  readonly steps: number;
  readonly lookEvery?: number;
  readonly rate?: (step: number) => number;
}

interface Moment {
  readonly active: string;
  readonly probed: string;
  readonly state: Json;
}

/** Training as far as a policy sees it: only what is active, or probed, is measured, and it acts at looks. */
function train(
  policy: FreezePolicy,
  { truth, steps, names = NAMES, lookEvery = 1, rate = () => 1 }: Run,
): Moment[] {
  const components = names.map((path, layer) => component(path, { layer, kind: "linear", size: 4 }));
  let state = policy.init(components, { steps });
  const moments: Moment[] = [];
  for (let from = 1; from <= steps; from += lookEvery) {
    const numbers = Array.from({ length: lookEvery }, (_, i) => from + i);
    const frozen = policy.frozen(state), probed = policy.probed?.(state) ?? [];
    const read = (path: string, step: number): number =>
      frozen.includes(path) && !probed.includes(path) ? NaN : truth(path, step);
    const gradNorm = Object.fromEntries(names.map((path) => [path, numbers.map((step) => read(path, step))]));
    const look: Look = lookOf({ gradNorm }, numbers, numbers.map(rate));
    state = policy.next(state, look);
    const now = policy.frozen(state);
    const moment = {
      active: names.filter((path) => !now.includes(path)).join(""),
      probed: [...policy.probed?.(state) ?? []].sort().join(""),
      state,
    };
    numbers.forEach(() => moments.push(moment));
  }
  return moments;
}

/** The steps after which something is probed that was not before. */
function probes(moments: readonly Moment[]): [number, string][] {
  return moments.flatMap(({ probed }, i) =>
    probed !== "" && probed !== moments[i - 1]?.probed ? [[i + 1, probed] as [number, string]] : []
  );
}

const small = sticky(below("gradNorm", 1));

/** Small from the first step on, so that all freezes at once. */
const quiet = (): number => 0.5;

function quickly(options: ThawOptions = {}): FreezePolicy {
  return thaw(small, { every: 4, readings: 1, ...options });
}

Deno.test("thaw leaves what stays quiet frozen, and probes it after waits that grow by every", () => {
  const moments = train(quickly(), { truth: quiet, steps: 60, names: ["a"] });
  assert(moments.every(({ active }) => active === ""));
  // Frozen at 1. Probed at 8, read at 9, then waits of 8, 12, 16 steps from the reading, up to a multiple of 4.
  assertEquals(probes(moments), [[8, "a"], [20, "a"], [36, "a"], [56, "a"]]);
});

Deno.test("thaw probes as many as it is told to, those that waited longest first, and all in turn", () => {
  const order = probes(train(quickly({ count: 2 }), { truth: quiet, steps: 32 })).map(([, paths]) => paths);
  assertEquals(order.slice(0, 3), ["ab", "cd", "e"]);
  assertEquals(order.slice(3).join("").slice(0, 3), "abc");
  const single = probes(train(quickly({ count: 1 }), { truth: quiet, steps: 26 })).map(([, paths]) => paths);
  assertEquals(
    single,
    ["a", "b", "c", "d", "e"],
    "also when the first is due again before the last had its turn",
  );
});

Deno.test("thaw wakes what has grown by the factor, and not what has grown by less", () => {
  const grown = (factor: number) => (_: string, step: number): number => step < 5 ? 0.5 : 0.5 * factor;
  const active = (factor: number, wake?: number) =>
    train(quickly({ wake }), { truth: grown(factor), steps: 9, names: ["a"] }).at(-1)!.active;
  assertEquals([active(1.99), active(2.01), active(2.01, 3), active(3.01, 3)], ["", "a", "", "a"]);
});

Deno.test("thaw compares with the average before freezing, not with the last reading alone", () => {
  // The average of 1.2, 1.2, 1.2, 0.4 by weight 0.1 is 0.9675.
  const truth = (_: string, step: number): number => step < 4 ? 1.2 : step === 4 ? 0.4 : 1.9;
  const moments = train(quickly(), { truth, steps: 9, names: ["a"] });
  assertEquals([moments[2].active, moments[3].active, moments[8].active], ["a", "", ""]);
  const more = train(quickly(), {
    truth: (path, step) => step < 5 ? truth(path, step) : 1.95,
    steps: 9,
    names: ["a"],
  });
  assertEquals(more[8].active, "a");
});

Deno.test("thaw takes the mean of as many readings as it is told", () => {
  const truth = (_: string, step: number): number => step < 5 ? 0.5 : [2.4, 0.3, 0.3][(step - 9) % 3];
  const active = (readings: number) =>
    train(quickly({ readings }), { truth, steps: 12, names: ["a"] })[8 + readings - 1].active;
  assertEquals([active(1), active(2), active(3)], ["a", "a", ""]);
});

Deno.test("thaw trains a woken component for at least every steps, then the policy freezes it anew", () => {
  const loud = (from: number, to: number) => (_: string, step: number): number =>
    from <= step && step < to ? 5 : 0.5;
  const spans = (to: number) =>
    train(quickly(), { truth: loud(8, to), steps: 24, names: ["a"] }).flatMap(({ active }, i) =>
      active ? [i + 1] : []
    );
  // Read at 9, so active after steps 9 to 12 although it is small at once.
  assertEquals(spans(10), [9, 10, 11, 12]);
  // Loud to 17, it freezes at the first small reading.
  assertEquals(spans(18), [9, 10, 11, 12, 13, 14, 15, 16, 17]);
});

Deno.test("thaw halves the wait of what it wakes, and compares it with its new life", () => {
  // Quiet for three probes, so that the wait is 16 steps; then six times as large for good.
  const truth = (_: string, step: number): number => step < 40 ? 0.15 : 0.9;
  const moments = train(quickly(), { truth, steps: 90, names: ["a"] });
  const [first, second, third, fourth, fifth] = probes(moments).map(([step]) => step);
  assertEquals([first, second, third, fourth], [8, 20, 36, 56]);
  assertEquals(moments[56].active, "a");
  // Woken at 57 with a wait of 8, frozen again at 61 at 0.9 on average: quiet, when it is probed after 69.
  assertEquals(fifth, 72);
  assert(moments.slice(61).every(({ active }) => active === ""));
});

Deno.test("thaw forgets the average of the life before", () => {
  // Active at 1.2 for 40 steps; woken by 2.5 after 48; active at 0.8 for 4 steps; then 2 is more than twice as much.
  const truth = (_: string, step: number): number =>
    step <= 40 ? 1.2 : step === 49 ? 2.5 : step < 61 ? 0.8 : 2;
  const moments = train(quickly(), { truth, steps: 61, names: ["a"] });
  assertEquals([moments[47].active, moments[48].active, moments[59].active, moments[60].active], [
    "",
    "a",
    "",
    "a",
  ]);
});

Deno.test("thaw begins a second copy of the policy: patience counts anew, the grace period does not", () => {
  const policy = thaw(sticky(after(0.1, patience(6, below("gradNorm", 1)))), { every: 4, readings: 1 });
  const truth = (_: string, step: number): number => step === 17 ? 5 : 0.5;
  const moments = train(policy, { truth, steps: 40, names: ["a"] });
  const spans = moments.flatMap(({ active }, i) => active ? [i + 1] : []);
  // Frozen at 10 after the grace of 4 steps; woken by the reading of step 17; six small readings after it.
  assertEquals([spans.slice(0, 9).at(-1), spans.slice(9)], [9, [17, 18, 19, 20, 21, 22]]);
});

Deno.test("thaw goes on judging what is awake when another wakes", () => {
  const truth = (path: string, step: number): number =>
    path === "a" ? step >= 8 && step < 20 ? 5 : 0.5 : step >= 12 && step < 16 ? 5 : 0.5;
  const moments = train(quickly({ count: 1 }), { truth, steps: 24, names: ["a", "b"] });
  const spans = (name: string) => moments.flatMap(({ active }, i) => active.includes(name) ? [i + 1] : []);
  assertEquals(spans("a"), [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
  assertEquals(spans("b"), [13, 14, 15, 16]);
});

Deno.test("thaw leaves the components that it does not wake to the policy", () => {
  const truth = (path: string, step: number): number =>
    path === "a" ? (step < 8 ? 0.5 : 5) : step < 14 ? 3 : 0.5;
  const moments = train(quickly(), { truth, steps: 20, names: ["a", "b"] });
  assertEquals([moments[6].active, moments[9].active, moments[13].active], ["b", "ab", "a"]);
});

/** Freezes everything after the steps that a test names, and says so. */
function scripted(frozenAt: (step: number) => boolean): FreezePolicy {
  return definePolicy({
    name: "scripted",
    init: (components) => ({ step: 0, paths: components.map(({ path }) => path) }),
    next: (state, { step }) => ({ ...state, step }),
    frozen: ({ step, paths }) => frozenAt(step) ? paths : [],
    probed: ({ step, paths }) => step === 2 ? paths.slice(0, 1) : [],
    reason: ({ step }) => ({ signal: "step", value: step, threshold: null, rule: "scripted" }),
  });
}

Deno.test("thaw forgets that a component is awake, and why it froze, when its policy thaws it by itself", () => {
  const policy = thaw(scripted((step) => step > 1 && step !== 10 && step !== 18), { every: 4, readings: 1 });
  const truth = (_: string, step: number): number => step < 8 ? 0.5 : 5;
  const moments = train(policy, { truth, steps: 20, names: ["a"] });
  const spans = moments.flatMap(({ active }, i) => active ? [i + 1] : []);
  assertEquals(spans, [1, 9, 10, 18]); // woken at 9 for 4 steps, thawed by the policy at 10
  const awake = train(thaw(scripted((step) => step > 1 && step !== 18), { every: 4, readings: 1 }), {
    truth,
    steps: 20,
    names: ["a"],
  });
  const value = (step: number) => policy.reason!(awake[step - 1].state, "a")?.value ?? null;
  // Awake from 9 to 12, frozen by the second copy at 13, by the first one at 19.
  assertEquals([value(8), value(12), value(17), value(18), value(19)], [8, null, 13, null, 19]);
});

Deno.test("thaw probes what its policy asks for beside its own", () => {
  const moments = train(thaw(scripted(() => true), { every: 1, count: 1 }), {
    truth: quiet,
    steps: 3,
    names: ["a", "b"],
  });
  assertEquals(moments.map(({ probed }) => probed), ["a", "a", "a"]);
  const late = train(thaw(scripted(() => true), { every: 9 }), { truth: quiet, steps: 3, names: ["a", "b"] });
  assertEquals(late.map(({ probed }) => probed), ["", "a", ""]);
});

Deno.test("thaw begins a second copy anew at each wake: what froze in an earlier life is not frozen by memory", () => {
  const loud = (step: number): boolean => step >= 8 && step < 12 || step >= 20 && step < 30;
  const truth = (_: string, step: number): number => loud(step) ? 5 * step : 0.5;
  const moments = train(quickly(), { truth, steps: 34, names: ["a"] });
  const spans = moments.flatMap(({ active }, i) => active ? [i + 1] : []);
  const [from, to] = [spans.find((step) => step > 15)!, spans.at(-1)];
  assert(from > 20 && from < 26, `${spans}`);
  assertEquals(to, 29);
});

Deno.test("thaw acts on looks of many steps, a look later", () => {
  const truth = (_: string, step: number): number => step < 8 ? 0.5 : 5;
  const options = { every: 4, readings: 3 };
  const moments = train(thaw(small, options), { truth, steps: 24, names: ["a"], lookEvery: 4 });
  assertEquals(probes(moments).slice(0, 1), [[5, "a"]]);
  assertEquals([moments[7].active, moments[11].active], ["", "a"]);
});

Deno.test("thaw wakes all when the learning rate has fallen by the factor since they froze", () => {
  const rate = (step: number): number => step < 10 ? 1 : step < 20 ? 0.5 : 0.2;
  const spans = (drop?: number) =>
    train(thaw(small, { every: 2, count: 1, drop }), { truth: quiet, steps: 26, rate, names: ["a", "b"] })
      .flatMap(({ active }, i) => active ? [`${i + 1}${active}`] : []);
  assertEquals(spans(), []);
  assertEquals(spans(2), ["10ab", "11ab", "20ab", "21ab"]);
  assertEquals(spans(4), ["20ab", "21ab"]);
  assertEquals(spans(6), []);
});

Deno.test("thaw measures the next fall from where the last one ended", () => {
  const truth = (path: string, step: number): number => path === "b" && step < 11 ? 3 : 0.5;
  const rate = (step: number): number => step < 10 ? 1 : 0.5;
  const moments = train(thaw(small, { every: 2, drop: 2 }), { truth, steps: 14, rate, names: ["a", "b"] });
  assertEquals(moments.slice(8).map(({ active }) => active), ["b", "ab", "a", "", "", ""]);
});

Deno.test("thaw measures a fall from the highest rate since something froze, warm-up included", () => {
  const rate = (step: number): number => step <= 5 ? step / 5 : 1 - (step - 5) / 20;
  const moments = train(thaw(small, { every: 2, drop: 2 }), { truth: quiet, steps: 20, rate, names: ["a"] });
  assertEquals(moments.findIndex(({ active }) => active === "a") + 1, 15); // 0.5
});

Deno.test("thaw ends training when its policy does, but not while something is awake", () => {
  const ending = (truth: Run["truth"]) => {
    const policy = thaw(gradES({ tau: 1, alpha: 0 }), { every: 4, readings: 1 });
    return train(policy, { truth, steps: 12, names: ["a"] }).map(({ state }) => ends(policy, state));
  };
  assertEquals(ending(quiet), Array(12).fill(true));
  assertEquals(ending((_, step) => step < 8 ? 0.5 : 5), [...Array(8).fill(true), false, false, false, false]);
  assertEquals(thaw(small).stopped, undefined);
  const outside = untilFrozen(thaw(small, { every: 4, readings: 1 }));
  const last = train(outside, { truth: (_, step) => step < 8 ? 0.5 : 5, steps: 9, names: ["a"] });
  assertEquals([ends(outside, last[7].state), ends(outside, last[8].state)], [true, false]);
});

Deno.test("thaw gives the reason of the life in which a component froze", () => {
  const truth = (_: string, step: number): number => step < 8 ? 0.5 : step < 12 ? 5 : 0.25;
  const policy = quickly();
  const moments = train(policy, { truth, steps: 13, names: ["a"] });
  const value = (step: number) => policy.reason!(moments[step - 1].state, "a")?.value ?? null;
  assertEquals([value(1), value(8), value(9), value(13)], [0.5, 0.5, null, 0.25]);
});

Deno.test("thaw takes its first probe of what was never active as what it compares with", () => {
  const policy = thaw(rotate({ every: 100 }), { every: 4, readings: 1 });
  const truth = (path: string, step: number): number => path === "b" ? 7 : step < 12 ? 7 : 20;
  const moments = train(policy, { truth, steps: 30, names: ["a", "b", "c"] });
  assertEquals(moments[8].active, "a");
  assertEquals(moments.at(-1)!.active, "a", "what rotate freezes by the step it freezes again at once");
  assert(moments.some(({ active }) => active === "ac"));
  assert(moments.every(({ active }) => !active.includes("b")));
});

Deno.test("thaw inside of thaw probes what either asks for, and measures one signal more than its policy", () => {
  const twice = thaw(thaw(small, { every: 2, readings: 1 }), { every: 3, readings: 1 });
  const moments = train(twice, { truth: quiet, steps: 30, names: ["a"] });
  assert(moments.some(({ probed }) => probed === "a"));
  assertEquals(thaw(below("weightDelta", 1)).signals, ["weightDelta", "gradNorm"]);
  assertEquals(anyOf(twice, small).signals, ["gradNorm"]);
});

Deno.test("thaw leaves out what its policy names without having been shown it, or twice", () => {
  const careless = definePolicy({
    name: "careless",
    init: (components) => components.map(({ path }) => path),
    next: (paths) => paths,
    frozen: ([first, ...others]) => ["nowhere", first, first, ...others],
  });
  const policy = thaw(careless, { every: 2, readings: 1, count: 2 });
  const moments = train(policy, { truth: quiet, steps: 4, names: ["a", "b"] });
  assertEquals(policy.frozen(moments[0].state), ["a", "b"]);
  assertEquals(probes(moments), [[2, "ab"]]);
});

Deno.test("thaw wants whole numbers and factors above 1, and a learning rate to see it fall", () => {
  for (const name of ["count", "every", "readings"]) {
    for (const value of [0, 1.5, NaN]) {
      const message =
        `Cannot thaw what "${small.name}" freezes as "${name}" must be a whole number above 0: got ${value}`;
      assertThrows(() => thaw(small, { [name]: value }), InputError, message);
    }
  }
  for (const name of ["wake", "drop"]) {
    for (const value of [1, 0.5, NaN, Infinity]) {
      assertThrows(
        () => thaw(small, { [name]: value }),
        InputError,
        `"${name}" must be a number above 1: got ${value}`,
      );
    }
  }
  const blind = () => train(thaw(small, { drop: 2 }), { truth: quiet, steps: 1, rate: () => NaN });
  assertThrows(blind, InputError, `in step 1 as the optimizer has none: leave out "drop"`);
});

Deno.test("thaw's name prints its policy and options", () => {
  assertEquals(thaw(small).name, "thaw(sticky(below(gradNorm, 1)), 4 every 50, mean of 3, wake 2)");
  assertEquals(
    thaw(small, { count: 1, every: 9, drop: 10 }).name,
    "thaw(sticky(below(gradNorm, 1)), 1 every 9, mean of 3, wake 2, drop 10)",
  );
});
