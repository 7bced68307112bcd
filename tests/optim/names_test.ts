/**
 * The name of an optimizer holds all its settings: a run resumes only under the name that it was saved with.
 *
 * @module
 */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  adamW,
  type AdamWOptions,
  chain,
  clipByGlobalNorm,
  type ClipOptions,
  constantRate,
  cosine,
  type DecayOptions,
  linearRate,
  type Optimizer,
  type ScheduleOptions,
  sgd,
  type SgdOptions,
} from "@firn/train";
import {
  adafactor,
  type AdafactorOptions,
  adam,
  type AdamOptions,
  adamW8bit,
  type AdamW8bitOptions,
  cosineRestarts,
  type CosineRestartsOptions,
  gradientMoments,
  type GradientMomentsOptions,
  type InverseRootOptions,
  inverseRootRate,
  lion,
  type LionOptions,
  loraPlus,
  type LoraPlusOptions,
  muon,
  type MuonOptions,
  oneCycle,
  type OneCycleOptions,
  partition,
  type PolynomialOptions,
  polynomialRate,
  scheduleFreeAdamW,
  type ScheduleFreeOptions,
  warmupStableDecay,
  type WarmupStableDecayOptions,
  weightAverage,
} from "@firn/train/optim";

/** Two values of every option. The first may be left out where it is optional. */
type Settings<O> = { readonly [K in keyof Required<O>]: readonly [O[K], O[K]] };

/** A maker of optimizers or schedules: how it prints, and what it can be told. */
interface Row {
  readonly print: (options: never) => string;
  readonly settings: Readonly<Record<string, readonly [unknown, unknown]>>;
}

function row<O>(print: (options: O) => string, settings: Settings<O>): Row {
  return { print, settings: settings as Row["settings"] };
}

const rates = constantRate({ peak: 0.1 });
const decay: Settings<DecayOptions> = { peak: [1, 2], warmup: [0, 5], steps: [10, 20], floor: [0, 0.1] };

/** Every option of every maker: types ask for all of them. */
const MAKERS: Readonly<Record<string, Row>> = {
  adamW: row<AdamWOptions>((options) => adamW(options).name, {
    learningRate: [0.1, rates],
    beta1: [0.9, 0.8],
    beta2: [0.999, 0.95],
    eps: [1e-8, 1e-6],
    weightDecay: [0.01, 0],
    decayed: ["all", "matrices"],
  }),
  loraPlus: row<LoraPlusOptions>((options) => loraPlus(options).name, {
    learningRate: [0.1, rates],
    beta1: [0.9, 0.8],
    beta2: [0.999, 0.95],
    eps: [1e-8, 1e-6],
    weightDecay: [0, 0.01],
    decayed: ["all", "matrices"],
    ratio: [16, 4],
    embeddingRate: [1e-6, rates],
  }),
  sgd: row<SgdOptions>((options) => sgd({ momentum: 0.5, weightDecay: 0.2, ...options }).name, {
    learningRate: [0.1, 0.2],
    momentum: [0.5, 0.9],
    nesterov: [false, true],
    weightDecay: [0.2, 0.1],
    decayed: ["all", "matrices"],
  }),
  adam: row<AdamOptions>((options) => adam(options).name, {
    learningRate: [0.1, rates],
    beta1: [0.9, 0.8],
    beta2: [0.999, 0.95],
    eps: [1e-8, 1e-6],
    weightDecay: [0, 0.01],
    decayed: ["all", "matrices"],
  }),
  adamW8bit: row<AdamW8bitOptions>((options) => adamW8bit(options).name, {
    learningRate: [0.1, rates],
    beta1: [0.9, 0.8],
    beta2: [0.999, 0.95],
    eps: [1e-8, 1e-6],
    weightDecay: [0.01, 0],
    decayed: ["all", "matrices"],
    least: [4096, 0],
    wideFor: [[], "top.*"],
  }),
  scheduleFreeAdamW: row<ScheduleFreeOptions>((options) => scheduleFreeAdamW(options).name, {
    learningRate: [0.1, rates],
    beta1: [0.9, 0.8],
    beta2: [0.999, 0.95],
    eps: [1e-8, 1e-6],
    weightDecay: [0, 0.01],
    decayed: ["all", "matrices"],
  }),
  lion: row<LionOptions>((options) => lion(options).name, {
    learningRate: [0.1, rates],
    beta1: [0.9, 0.8],
    beta2: [0.99, 0.95],
    weightDecay: [0, 0.1],
    decayed: ["all", "matrices"],
  }),
  adafactor: row<AdafactorOptions>((options) => adafactor(options).name, {
    learningRate: [0.1, rates],
    beta2Decay: [-0.8, -0.5],
    eps1: [2 ** -23, 1e-6],
    eps2: [1e-3, 1e-2],
    clip: [1, 2],
    weightDecay: [0, 0.1],
    decayed: ["all", "matrices"],
  }),
  muon: row<MuonOptions>((options) => muon(options).name, {
    learningRate: [0.1, rates],
    momentum: [0.95, 0.9],
    nesterov: [true, false],
    iterations: [5, 6],
    weightDecay: [0.1, 0],
    scale: ["matchAdamW", "original"],
    adamWFor: [[], "top.*"],
    adamW: [{}, { learningRate: 1 }],
  }),
  gradientMoments: row<GradientMomentsOptions>((options) => gradientMoments(options).name, {
    beta1: [0.9, 0.8],
    beta2: [0.999, 0.95],
  }),
  weightAverage: row<{ readonly decay: number }>(({ decay }) => weightAverage(decay).name, {
    decay: [0, 0.9],
  }),
  clipByGlobalNorm: row<ClipOptions & { readonly limit: number }>(
    ({ limit, over }) => clipByGlobalNorm(limit, { over }).name,
    { limit: [1, 2], over: ["active", "all"] },
  ),
  constantRate: row<ScheduleOptions>((options) => constantRate(options).description!, {
    peak: [1, 2],
    warmup: [0, 5],
  }),
  linearRate: row<DecayOptions>((options) => linearRate(options).description!, decay),
  cosine: row<DecayOptions>((options) => cosine(options).description!, decay),
  cosineRestarts: row<CosineRestartsOptions>((options) => cosineRestarts(options).description!, {
    ...decay,
    cycles: [1, 2],
  }),
  warmupStableDecay: row<WarmupStableDecayOptions>((options) => warmupStableDecay(options).description!, {
    ...decay,
    decay: [1, 2],
    shape: ["cosine", "linear"],
  }),
  polynomialRate: row<PolynomialOptions>((options) => polynomialRate(options).description!, {
    ...decay,
    power: [1, 2],
  }),
  inverseRootRate: row<InverseRootOptions>((options) => inverseRootRate(options).description!, {
    peak: [1, 2],
    warmup: [0, 5],
    timescale: [10_000, 9],
  }),
  oneCycle: row<OneCycleOptions>((options) => oneCycle(options).description!, {
    ...decay,
    floor: [0.1, 0.2],
    start: [0.01, 0.02],
  }),
};

/** What core/optim exports beside makers that have options. */
const OTHERS = [
  "adamSteps",
  "chain",
  "changedOf",
  "decay",
  "decaysOf",
  "globalNorm",
  "globs",
  "initMoments",
  "momentPath",
  "parameterGroups",
  "partition",
  "printRate",
  "scheduleOf",
  "times",
  "withWarmup",
];

Deno.test("MAKERS holds every function of core/optim that makes something of options", async () => {
  const folder = new URL("../../core/optim/", import.meta.url), found: string[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    if (name === "mod.ts") continue;
    const module: Record<string, unknown> = await import(new URL(name, folder).href);
    found.push(...Object.keys(module).filter((key) => typeof module[key] === "function"));
  }
  assertEquals(found.sort(), [...Object.keys(MAKERS), ...OTHERS].sort());
});

for (const [name, { print, settings }] of Object.entries(MAKERS)) {
  Deno.test(`${name} prints every setting, and the same whatever the order of its options`, () => {
    const entries = Object.entries(settings),
      all = (which: (key: string) => 0 | 1) =>
        Object.fromEntries(entries.map(([key, values]) => [key, values[which(key)]])) as never;
    const base = print(all(() => 0));
    assert(base.startsWith(`${name}(`), base);
    const changed = entries.map(([key]) => print(all((k) => k === key ? 1 : 0)));
    assertEquals(new Set([base, ...changed]).size, 1 + entries.length, [base, ...changed].join("\n"));
    const reversed = Object.fromEntries(entries.map(([key, values]) => [key, values[0]]).toReversed());
    assertEquals(print(reversed as never), base);
  });
}

Deno.test("optimizers print the schedule of their learning rate", () => {
  const make: readonly ((learningRate: number | typeof rates) => Optimizer)[] = [
    (learningRate) => adamW({ learningRate }),
    (learningRate) => sgd({ learningRate }),
  ];
  for (const optimizer of make) {
    const names = [0.1, rates, cosine({ peak: 0.1, steps: 10 }), cosine({ peak: 0.1, steps: 20 }), () => 0.1]
      .map((rate) => optimizer(rate).name);
    assertEquals(new Set(names).size, names.length, names.join("\n"));
  }
  assertEquals(adamW({ learningRate: () => 0.1 }).name, "adamW(schedule, weightDecay 0.01)");
  const described = Object.assign(() => 0.1, { description: "stairs(0.1)" });
  assertEquals(sgd({ learningRate: described, momentum: 0.9 }).name, "sgd(stairs(0.1), momentum 0.9)");
});

Deno.test("chain and partition print parts, patterns and their order", () => {
  const [a, b] = [sgd({ learningRate: 0.1 }), sgd({ learningRate: 0.2 })];
  assertNotEquals(chain(a, b).name, chain(b, a).name);
  const names = [
    partition([["*.bias", a], ["*", b]]),
    partition([["*.bias", b], ["*", a]]),
    partition([["*.gain", a], ["*", b]]),
    partition([[["*.bias", "*.gain"], a], ["*", b]]),
    partition([["*.bias", a], ["*.gain", a], ["*", b]]),
  ].map(({ name }) => name);
  assertEquals(new Set(names).size, names.length, names.join("\n"));
  assertEquals(
    names[0],
    'partition(["*.bias"]: sgd(0.1, momentum 0), ["*"]: sgd(0.2, momentum 0))',
  );
});
