/** The stop by spectra: what it reads, and when it ends training. */

import { adamW, add, defineTraining, InputError, mean, multiply, type Tensor, tensor } from "@firn/train";
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { record, spectralConcentration, spectralStop } from "../../policies/mod.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { COMPONENTS, ends, lookOf, PATHS } from "./looks.ts";

Deno.test("the concentration of a spectrum is 1 for one direction, and one over the rank for equal ones", async () => {
  await using gpu = await openTestGpu();
  const size = (w: Tensor): Tensor => mean(multiply(w, w));
  const params = {
    single: { weight: tensor([1, 2, 3, 2, 4, 6], [2, 3]) },
    even: { weight: tensor([3, 0, 0, 3, 0, 0], [3, 2]) },
    mixed: { weight: tensor([2, 0, 0, 1], [2, 2]), bias: tensor([7, 7]) },
  };
  const loss = ({ single, even, mixed }: typeof params): Tensor =>
    [single.weight, even.weight, mixed.weight, mixed.bias].map(size).reduce((a, b) => add(a, b));
  using training = defineTraining(gpu, loss, {
    optimizer: adamW({ learningRate: 1e-9 }),
    policy: record(spectralConcentration),
    steps: 1,
  });
  const { look } = await training.next(await training.init(params), {});
  const readings = look!.readings.spectralConcentration!;
  assertAlmostEquals(readings.single[0], 1, 1e-6);
  assertAlmostEquals(readings.even[0], 0.5, 1e-6);
  assertAlmostEquals(readings.mixed[0], (16 + 1) / (4 + 1) ** 2, 1e-6);
});

/** The step after which a policy ends training, by a concentration of each step. */
function endOf(
  policy: ReturnType<typeof spectralStop>,
  value: (step: number) => number,
  steps = 100,
): number {
  let state = policy.init(COMPONENTS, { steps });
  for (let step = 1; step <= steps; step++) {
    const readings = {
      spectralConcentration: Object.fromEntries(PATHS.map((path) => [path, [value(step)]])),
    };
    state = policy.next(state, lookOf(readings, [step]));
    if (ends(policy, state)) return step;
  }
  return steps;
}

Deno.test("spectralStop ends when spectra move by less than a share of their fastest move, in any unit", () => {
  const settles = (step: number) => 0.1 + 0.1 * (1 - Math.exp(-step / 15));
  // Windows of 5 steps: a move falls to a tenth after some 40 steps; two in a row from step 50 on.
  assertEquals(endOf(spectralStop(), settles), 55);
  assertEquals(endOf(spectralStop(), (step) => 1e-4 * settles(step)), 55);
  assertEquals(endOf(spectralStop({ alpha: 0.7 }), settles), 75);
  assertEquals(endOf(spectralStop(), (step) => 0.1 + step / 1000), 100);
  assertEquals(endOf(spectralStop(), () => 0.1), 100, "what never moved has no fastest move");
});

Deno.test("spectralStop watches the matrices of the lowest layer, or what it is told to", () => {
  const watched = (policy: ReturnType<typeof spectralStop>, components = COMPONENTS) =>
    policy.measured!(spectralConcentration, components);
  assertEquals(watched(spectralStop()), ["layers.0.q_proj", "layers.0.up_proj"]);
  assertEquals(watched(spectralStop({ components: "*.1.q_proj" })), ["layers.1.q_proj"]);
  assertEquals(watched(spectralStop(), COMPONENTS.filter(({ layer }) => layer === null)), ["lm_head"]);
  assert(spectralStop({ components: "*.1.q_proj" }).name.endsWith("*.1.q_proj)"));
});

Deno.test("spectralStop refuses options out of range", () => {
  for (const [name, value] of [["share", 0], ["patience", 0.5], ["window", 2], ["alpha", -1]] as const) {
    assertThrows(
      () => spectralStop({ [name]: value }),
      InputError,
      `Cannot stop by spectra as "${name}" must be`,
    );
  }
  assertThrows(
    () => spectralStop({ components: "none" }).init(COMPONENTS, { steps: 9 }),
    InputError,
    `"none"`,
  );
});
