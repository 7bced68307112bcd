/** Policies that are replayed over logs. */

import { adamW, DataError, defineTraining, InputError, mean, multiply, scan } from "@firn/train";
import { memoryFileSystem } from "@firn/train/data";
import {
  isComparison,
  type Line,
  logged,
  openLog,
  readLog,
  renderComparison,
  replayOf,
  type StepLine,
} from "@firn/train/report";
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertLess,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import {
  anyOf,
  below,
  bottomFreeze,
  definePolicy,
  defineSignal,
  gradES,
  simulate,
  stopAt,
} from "../../policies/mod.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { mlpLoss, newMlp, pairs } from "../train/tiny.ts";
import { COST } from "../report/run_lines.ts";
import { COMPONENTS, PATHS, randomLook, STEPS } from "./looks.ts";
import { POLICIES } from "./table.ts";

const ALL = [
  "gradNorm",
  "gradDelta",
  "weightDelta",
  "benefit",
  "firstMoment",
  "secondMoment",
  "gradSquare",
  "spectralConcentration",
] as const;

/** The log of a run that froze nothing and measured everything: a look every two steps, one step of 8 ms for 624 operations. */
function logOf(seed: number, stepOf: (step: number) => Partial<StepLine> = () => ({})): Line[] {
  const { steps, loss, learningRate, readings, validation } = randomLook(seed);
  const optimizer = { name: "adamW", moments: [{ name: "m", meaning: "" }, { name: "v", meaning: "" }] };
  return [
    {
      kind: "start",
      config: { model: "llama", steps: STEPS, policy: "none" },
      adapter: "a GPU",
      perplexity: 9,
    },
    { kind: "components", components: COMPONENTS, run: { steps: STEPS, lookEvery: 2, optimizer } },
    ...steps.map((step, i): StepLine => ({
      kind: "step",
      step,
      loss: loss[i],
      learningRate: learningRate[i],
      stepMs: 8,
      launches: 5,
      flops: 1e6,
      frozen: 0,
      ...!Number.isNaN(validation![i]) && { validation: validation![i] },
      readings: Object.fromEntries(
        ALL.map((signal) => [
          signal,
          Object.fromEntries(PATHS.flatMap((path) => {
            const value = readings[signal]![path][i];
            return Number.isNaN(value) ? [] : [[path, value]];
          })),
        ]),
      ),
      ...stepOf(step),
    })),
    { kind: "end", ending: { reason: "steps", step: STEPS, best: null } },
  ];
}

/** Freezes and thaws in turn, with a probe, and freezes as long as what it read in the turn before was small. */
const turns = definePolicy({
  name: "turns",
  signals: ["gradNorm", "gradDelta", "firstMoment"],
  init: () => ({ step: 0, seen: 0 }),
  next: ({ seen }, { step, read }) => {
    const sum = ["gradNorm", "gradDelta", "firstMoment"].map((signal) => read(signal as "gradNorm", "bottom"))
      .filter(Number.isFinite).reduce((total, value) => total + value, 0);
    return { step, seen: step % 8 === 0 ? sum : seen + sum };
  },
  frozen: ({ step, seen }) => step % 8 >= 4 && seen > 1e-9 ? ["bottom"] : [],
  probed: ({ step }) => step % 8 >= 6 ? ["bottom"] : [],
  reason: ({ seen }) => ({ signal: "all", value: seen, threshold: 1e-9, rule: "turns" }),
});

const meanSquare = defineSignal({
  name: "meanSquare",
  measure: ({ gradient }) => mean(multiply(gradient, gradient)),
});

/** Freezes for good, probes what is frozen by a signal of its own, and thaws it once what it read there is enough. */
const probing = definePolicy({
  name: "probing",
  signals: [meanSquare],
  init: () => ({ step: 0, seen: 0 as number }),
  next: ({ seen }, { step, read }) => {
    const value = read(meanSquare, "bottom");
    return { step, seen: step > 6 && Number.isFinite(value) ? seen + 1 : seen };
  },
  frozen: ({ step, seen }) => step >= 4 && seen < 6 ? ["bottom"] : [],
  probed: () => ["bottom"],
});

for (
  const policy of [
    turns,
    probing,
    gradES({ components: "*", alpha: 0.25 }),
    anyOf(gradES({ tau: 1e9, alpha: 0.6, components: "*", metric: "gradDelta" }), stopAt(90)),
  ]
) {
  Deno.test(`simulated by the log of its own run, a policy decides what it decided: ${policy.name.slice(0, 40)}`, async () => {
    await using gpu = await openTestGpu();
    using training = defineTraining(gpu, mlpLoss, {
      optimizer: adamW({ learningRate: 0.02 }),
      policy,
      steps: 24,
      lookEvery: 2,
    });
    const fileSystem = memoryFileSystem(), log = await openLog("metrics.jsonl", { fileSystem });
    await log.add([{ kind: "start", config: { steps: 24 }, adapter: gpu.name }]);
    let state = await training.init(newMlp());
    for await (state of logged(scan(training, state, pairs(24)), { log, training }));
    const lines = await readLog("metrics.jsonl", { fileSystem });
    const events = lines.filter((line) => line.kind === "freeze");
    assert(events.length > 0);
    const simulated = simulate(policy, lines);
    assertEquals(
      simulated.changes as unknown[],
      events.map(({ kind: _, before: _before, after: _after, ...change }) => change),
    );
    assertEquals(simulated.ending as unknown, state.ending);
    assertEquals([simulated.missing, simulated.known], [[], 1]);
    const losses = (all: readonly Line[]) => all.flatMap((line) => line.kind === "step" ? [line.loss] : []);
    assertEquals(losses(simulated.lines), losses(lines));
  });
}

Deno.test("every policy of the laws can be simulated, twice with the same result, and knows all that it measures", () => {
  for (const policy of POLICIES) {
    const log = logOf(2), once = simulate(policy, log);
    assertEquals(simulate(policy, log), once, policy.name);
    assertEquals(once.missing, [], policy.name);
    assert(once.known > 0.6, `${policy.name}: ${once.known}`); // one reading in eight is absent, and more by chance
    const moved = new Set<string>();
    for (const { frozen, thawed } of once.changes) {
      assert(
        frozen.every((path) => !moved.has(path)) && thawed.every((path) => moved.has(path)),
        policy.name,
      );
      frozen.forEach((path) => moved.add(path));
      thawed.forEach((path) => moved.delete(path));
    }
    assertEquals([...moved].sort(), [...once.frozen].sort());
  }
});

Deno.test("a simulated policy does not see what it freezes, nor what it does not measure", () => {
  const seen: (number | null)[][] = [];
  const spy = definePolicy({
    name: "spy",
    signals: ["gradNorm", "gradSquare"],
    measured: (signal) => signal === "gradNorm" ? PATHS : ["lm_head"],
    init: () => ({ step: 0 }),
    next: (_, { step, read }) => {
      seen.push(
        [read("gradNorm", "lm_head"), read("gradSquare", "lm_head"), read("gradSquare", "embed_tokens")]
          .map((value) => Number.isNaN(value) ? null : value),
      );
      return { step };
    },
    frozen: ({ step }) => step >= 4 && step < 12 ? ["lm_head"] : [],
    probed: ({ step }) => step >= 8 ? ["lm_head"] : [],
  });
  const ones = {
    gradNorm: Object.fromEntries(PATHS.map((path) => [path, 1])),
    gradSquare: { lm_head: 2, embed_tokens: 3 },
  };
  const { known } = simulate(spy, logOf(1, () => ({ readings: ones })));
  const at = (step: number) => seen[step - 1];
  assertEquals([at(4), at(5), at(9), at(13)], [[1, 2, null], [null, null, null], [1, 2, null], [1, 2, null]]);
  assertEquals(known, 1);
});

Deno.test("a simulation counts the operations, the seconds and the bytes that freezing saves", () => {
  // 64 + 16 + 32 + 48 + 16 + 32 + 48 + 64 = 320 elements; 3 operations each, none for inputs at the bottom: 896.
  const { flops, seconds, freed, share, steps } = simulate(bottomFreeze(0.5), logOf(1));
  // The embedding and the first layer, 160 elements, freeze after step 2; then 160 forward, 160 by weights, 144 by inputs.
  const after = 320 + 160 + 144;
  assertEquals(flops, { full: 20 * 896, simulated: 2 * 896 + 18 * after });
  assertAlmostEquals(seconds!.full, 0.16, 1e-12);
  assertAlmostEquals(seconds!.simulated, 0.008 * (2 + 18 * after / 896), 1e-12);
  assertEquals([freed, share, steps], [8 * 160, 0.5, 20]);
  const stopped = simulate(stopAt(5), logOf(1));
  assertEquals([stopped.steps, stopped.ending?.reason, stopped.flops!.full], [6, "frozen", 20 * 896]);
  assertEquals(stopped.flops!.simulated, 6 * 896);
});

Deno.test("seconds follow the paces of the frozen sets that the log measured", () => {
  const log = logOf(1, (step) => ({ stepMs: step <= 2 ? 99 : step <= 10 ? 10 : step <= 12 ? 50 : 7 }));
  const cost = { launches: 5, flops: 1, matmulFlops: 1, bytes: 1, memory: 1, constants: 0 };
  const at = log.findIndex((line) => line.kind === "step" && line.step === 11);
  log.splice(at, 0, {
    kind: "freeze",
    step: 10,
    frozen: PATHS.slice(0, 4),
    thawed: [],
    before: cost,
    after: cost,
  });
  const { seconds } = simulate(bottomFreeze(0.5), log);
  assertAlmostEquals(seconds!.full, 0.2, 1e-9);
  assertAlmostEquals(seconds!.simulated, (2 * 10 + 18 * 7) / 1000, 1e-9);
});

Deno.test("a simulation says which signals the log lacks, and how many readings", () => {
  const nines = Object.fromEntries(PATHS.map((path) => [path, 9]));
  const log = logOf(
    1,
    (step) => ({ readings: step % 2 === 0 ? {} : { gradNorm: nines } } as Partial<StepLine>),
  );
  const { missing, known } = simulate(anyOf(below("gradNorm", 1), below("benefit", 1)), log);
  assertEquals([missing, known], [["benefit"], 0.25]);
  assertEquals(simulate(stopAt(9), log).known, 1);
  assertThrows(() => simulate(stopAt(9), log.slice(0, 1)), DataError, "must tell the components");
});

Deno.test("the log of a simulated run has no loss of what was never trained, and compares on a page", async () => {
  const log = logOf(1), { lines, changes } = simulate(bottomFreeze(0.5), log);
  const losses = lines.flatMap((line) => line.kind === "step" ? [line.loss] : []);
  assertEquals(losses.map((loss) => loss !== null), losses.map((_, i) => i < 2));
  assertEquals(lines.filter((line) => line.kind === "freeze").length, changes.length);
  const page = await renderComparison([{ name: "recorded", lines: log }, { name: "bottom", lines }]);
  assert(isComparison(page));
  assertStringIncludes(page, "bottomFreeze(0.5)");
});

Deno.test("a policy that freezes what the run does not have is refused, as training refuses it", () => {
  const other = definePolicy({
    name: "other",
    init: () => 0,
    next: () => 0,
    frozen: () => ["layers.9.q_proj"],
  });
  assertThrows(() => simulate(other, logOf(1)), InputError, 'there is no "layers.9.q_proj"');
});

Deno.test("a log of 40,000 components, or of 200,000 looks, is replayed within seconds", () => {
  const began = performance.now();
  const cost = { forward: 1, dX: 1, dW: 1, depth: 0 }, [start, , step] = logOf(1);
  const components = Array.from({ length: 40_000 }, (_, i) => ({ ...COMPONENTS[0], path: `${i}`, cost }));
  const wide = simulate(stopAt(1), [start, { kind: "components", components }, step]);
  assertEquals([wide.share, wide.frozen.length], [1, 40_000]);
  const change = { frozen: [], thawed: [], before: COST, after: COST };
  const long: Line[] = [start, { kind: "components", components: COMPONENTS, run: { steps: 200_000 } }];
  for (let at = 1; at <= 200_000; at++) {
    long.push({ ...step as StepLine, step: at, readings: {} });
    if (at % 2 === 0) long.push({ kind: "freeze", step: at, ...change });
  }
  assertEquals(replayOf(long).looks.length, 200_000);
  // What compares each with each takes minutes.
  assertLess(performance.now() - began, 20_000);
});

Deno.test("a log whose components cost nothing tells no operations and no seconds", () => {
  const cost = { forward: 0, dX: 0, dW: 0, depth: 0 };
  const free = logOf(1).map((line): Line =>
    line.kind === "components"
      ? { ...line, components: line.components.map((component) => ({ ...component, cost })) }
      : line
  );
  const { flops, seconds, lines } = simulate(bottomFreeze(0.5), free);
  assertEquals([flops, seconds], [null, null]);
  assert(lines.every((line) => line.kind !== "step" || line.stepMs === 8));
});

Deno.test("a log that ends early leaves the end of a policy open", () => {
  const { ending, steps, flops } = simulate(bottomFreeze(0.5), logOf(1).slice(0, 10));
  assertEquals([ending, steps, flops!.full], [null, 8, 8 * 896]);
});
