/** Each optimizer against float64: PyTorch's where it has the optimizer, else a reference from the paper. */

import { assertAlmostEquals, assertEquals } from "@std/assert";
import { adamW, chain, constantRate, type Gpu, type Optimizer, read, sgd, tensor } from "@firn/train";
import {
  adafactor,
  adam,
  adamW8bit,
  gradientMoments,
  lion,
  momentPath,
  muon,
  scheduleFreeAdamW,
  weightAverage,
} from "@firn/train/optim";
import { openTestGpu } from "../reference/open_gpu.ts";
import { assertNear } from "../reference/values.ts";
import {
  adamW8bitReference,
  codes8bit,
  lionReference,
  muonReference,
  reference,
  scheduleFreeReference,
} from "./references.ts";
import { assertParams, gradients, numbers, STEPS, tensors, train } from "./steps.ts";

type Fixture = Readonly<Record<string, Readonly<Record<string, readonly number[]>>>>;
const TORCH: Fixture = JSON.parse(
  await Deno.readTextFile(new URL("../fixtures/optimizers.json", import.meta.url)),
);
const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const decayed = { learningRate: 0.1, beta1: 0.8, beta2: 0.95, eps: 1e-6, weightDecay: 0.1 };
/** The runs of optimizers.json. */
const AS_TORCH: Readonly<Record<string, Optimizer>> = {
  sgd: sgd({ learningRate: 0.05 }),
  "sgd momentum": sgd({ learningRate: 0.05, momentum: 0.9 }),
  "sgd nesterov": sgd({ learningRate: 0.05, momentum: 0.9, nesterov: true, weightDecay: 0.1 }),
  adam: adam(decayed),
  adamW: adamW(decayed),
  adafactor: adafactor({ learningRate: 0.1, weightDecay: 0.1 }),
  "adafactor clipped": adafactor({ learningRate: 0.6, eps1: 1e-4, eps2: 0.9, beta2Decay: -0.5, clip: 1.01 }),
};

Deno.test("the table of runs is that of the fixture", () =>
  assertEquals(Object.keys(AS_TORCH), Object.keys(TORCH)));

for (const [name, optimizer] of Object.entries(AS_TORCH)) {
  Deno.test(`${name} equals PyTorch in float64 over twenty steps`, async () => {
    assertParams(await train(gpu, optimizer), new Map(Object.entries(TORCH[name])));
  });
}

Deno.test("lion equals algorithm 2 of its paper in float64 over twenty steps", async () => {
  const optimizer = lion({ learningRate: 0.05, beta1: 0.8, beta2: 0.95, weightDecay: 0.1 });
  assertParams(
    await train(gpu, optimizer),
    lionReference({ rate: 0.05, beta1: 0.8, beta2: 0.95, decay: 0.1 }),
  );
});

for (const nesterov of [true, false]) {
  Deno.test(`muon ${nesterov ? "with" : "without"} Nesterov equals its definition in float64 over twenty steps`, async () => {
    const scale = nesterov ? "matchAdamW" : "original";
    const optimizer = muon({
      learningRate: 0.05,
      momentum: 0.9,
      nesterov,
      scale,
      iterations: nesterov ? 5 : 2,
    });
    const expected = muonReference({
      rate: 0.05,
      momentum: 0.9,
      decay: 0.1,
      nesterov,
      iterations: nesterov ? 5 : 2,
      scale: (rows, columns) =>
        nesterov ? 0.2 * Math.sqrt(Math.max(rows, columns)) : Math.sqrt(Math.max(1, rows / columns)),
    });
    // Each iteration raises errors of small singular values by 3.4, five of them by 500.
    assertParams(await train(gpu, optimizer), expected, 3e-5);
  });
}

Deno.test("muon gives tables, heads and vectors to AdamW with the rate of its own, and stacks are stacks of matrices", () => {
  const optimizer = muon({ learningRate: 0.1 });
  const params = new Map(
    ["model.embed_tokens.weight", "lm_head.weight", "layer.weight", "experts.weight", "norm.weight"].map((
      path,
      i,
    ) => [path, tensor(new Float32Array(8), [[4, 2], [4, 2], [4, 2], [2, 2, 2], [8]][i])]),
  );
  const kept = [...optimizer.init(params).keys()].filter((path) => path.startsWith("v."));
  assertEquals(kept, ["v.model.embed_tokens.weight", "v.lm_head.weight", "v.norm.weight"]);
});

Deno.test("scheduleFreeAdamW equals algorithm 1 of its paper in float64, at y and at x", async () => {
  const rate = constantRate({ peak: 0.1, warmup: 3 });
  const settings = { beta1: 0.85, beta2: 0.95, eps: 1e-6 };
  const optimizer = scheduleFreeAdamW({ learningRate: rate, ...settings, weightDecay: 0.1 });
  const { y, x } = scheduleFreeReference({ rate, ...settings, decay: 0.1 });
  assertParams(await train(gpu, optimizer), y);
  assertParams(await train(gpu, optimizer, { evaluated: true }), x);
});

Deno.test("weightAverage is the average of the weights, and changes no step", async () => {
  const optimizer = chain(sgd({ learningRate: 0.05 }), weightAverage(0.8));
  const average = numbers(1);
  const params = reference(({ path, p, g }) => {
    const own = average.get(path)!;
    p.forEach((x, i) => {
      p[i] = x - 0.05 * g[i];
      own[i] = 0.8 * own[i] + 0.2 * p[i];
    });
  });
  assertParams(await train(gpu, optimizer), params);
  assertParams(await train(gpu, optimizer, { evaluated: true }), average);
});

Deno.test("gradientMoments passes gradients on, and keeps the moments that adamW keeps", async () => {
  const params = tensors(numbers(1)), grads = tensors(gradients(1));
  const moments = gradientMoments(), adam = adamW({ learningRate: 1 });
  const [own, theirs] = [moments, adam].map((optimizer) =>
    optimizer.next(optimizer.init(params), grads, params)
  );
  assertEquals([...own.updates], [...grads]);
  for (const path of params.keys()) {
    for (const i of [0, 1]) {
      const values = [[moments, own], [adam, theirs]] as const;
      const [a, b] = await Promise.all(
        values.map(([optimizer, { state }]) => read(gpu, state.get(momentPath(optimizer.moments[i], path))!)),
      );
      assertEquals(a, b);
    }
  }
});

Deno.test("adamW8bit equals AdamW whose moments are packed to their nearest codes after every step", async () => {
  const optimizer = adamW8bit({ learningRate: 0.05, weightDecay: 0.1, least: 0 });
  const expected = adamW8bitReference({ rate: 0.05, decay: 0.1, block: 256 });
  assertParams(await train(gpu, optimizer), expected, 2e-6);
  assertEquals(STEPS > 2, true, "moments are unpacked, too");
});

Deno.test("adamW8bit packs every code to itself, over blocks and at their ends", async () => {
  // Zero gradients, so that moments stay in their proportions.
  const signed = codes8bit(true), unsigned = codes8bit(false), size = 600;
  const g = Float32Array.from({ length: size }, (_, i) => 10 * signed[i % 256]);
  const optimizer = adamW8bit({ learningRate: 0.1, beta1: 0, beta2: 0, least: 0 });
  const params = new Map([["w", tensor(new Float32Array(size))]]);
  const { state, readings } = optimizer.next(optimizer.init(params), new Map([["w", tensor(g)]]), params);
  assertNear(await read(gpu, readings!.get("m.w")!), Float64Array.from(g), { tolerance: 1e-6, what: "m" });
  const words = await read(gpu, state.get("blocks.w")!) as Uint32Array;
  for (let i = 0; i < size; i++) {
    const base = Math.floor(i / 256) * 130, lane = i % 256;
    const scales = new Float32Array(words.slice(base, base + 2).buffer);
    const code = (from: number): number => words[base + from + (lane >> 2)] >>> 8 * (lane & 3) & 255;
    const own = near(signed, { value: g[i], scale: scales[0] });
    assertAlmostEquals(signed[code(2)] * scales[0], own, 1e-6, `m of ${i}`);
    // The first blocks hold 1 and so their own codes.
    if (base < 260) assertAlmostEquals(own, g[i], 1e-6);
    const square = near(unsigned, { value: g[i] ** 2, scale: scales[1] });
    assertAlmostEquals(unsigned[code(66)] * scales[1], square, 1e-6 + 1e-4 * square, `v of ${i}`);
  }
});

/** The nearest of some numbers times a scale. */
function near(
  codes: readonly number[],
  { value, scale }: { readonly value: number; readonly scale: number },
): number {
  const off = (code: number): number => Math.abs(code * scale - value);
  return scale * codes.reduce((best, code) => off(code) < off(best) ? code : best);
}
