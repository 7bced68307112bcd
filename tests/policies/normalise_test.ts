import { assert, assertEquals } from "@std/assert";
import { below, gradES, type Normalise } from "../../policies/mod.ts";
import { COMPONENTS, frozenSets, lookOf, randomFrom, STEPS } from "./looks.ts";

const STEP_NUMBERS = Array.from({ length: STEPS }, (_, i) => i + 1);

/**
 * Readings of `weightDelta` under Adam: the learning rate times the sum over elements of an update that is near 1 in
 * size, whatever the gradients are.
 */
function adamDeltas(rate: (step: number) => number, seed = 5): Record<string, number[]> {
  const random = randomFrom(seed);
  return Object.fromEntries(COMPONENTS.map(({ path, size }) => [
    path,
    STEP_NUMBERS.map((step) => rate(step) * size * (0.8 + 0.1 * random())),
  ]));
}

function frozenBy(
  tau: number,
  options: { normalise: Normalise; rate: (step: number) => number },
): string[][] {
  const look = lookOf(
    { weightDelta: adamDeltas(options.rate) },
    STEP_NUMBERS,
    STEP_NUMBERS.map(options.rate),
  );
  return frozenSets(below("weightDelta", tau, options), look).slice(1);
}

const ALL = COMPONENTS.map(({ path }) => path).sort();
const SMALL = COMPONENTS.filter(({ size }) => size < 40).map(({ path }) => path).sort();

Deno.test("below without normalisation freezes weightDelta by size at a constant learning rate", () => {
  for (const set of frozenBy(0.1 * 36, { normalise: "none", rate: () => 0.1 })) assertEquals(set, SMALL);
});

Deno.test("below with lr*size takes the size order out of weightDelta at a constant learning rate", () => {
  for (const set of frozenBy(0.91, { normalise: "lr*size", rate: () => 0.1 })) assertEquals(set, ALL);
  for (const set of frozenBy(0.79, { normalise: "lr*size", rate: () => 0.1 })) assertEquals(set, []);
});

Deno.test("below with lr*size decides the same at twice the learning rate, without it does not", () => {
  const rate = (step: number) => 0.1 + step / 100;
  const twice = (step: number) => 2 * rate(step);
  const same = frozenBy(0.85, { normalise: "lr*size", rate });
  assert(same.some((set) => set.length > 0 && set.length < ALL.length));
  assertEquals(frozenBy(0.85, { normalise: "lr*size", rate: twice }), same);
  assertEquals(frozenBy(2 * 3, { normalise: "none", rate: twice }), frozenBy(3, { normalise: "none", rate }));
});

Deno.test("below without normalisation freezes all of weightDelta as the learning rate falls, lr*size does not", () => {
  const rate = (step: number) => 0.1 * (1 - step / (STEPS + 1));
  assertEquals(frozenBy(1, { normalise: "none", rate }).at(-1), ALL);
  assertEquals(frozenBy(0.79, { normalise: "lr*size", rate }).at(-1), []);
});

Deno.test("below with lr*size freezes nothing at a learning rate of 0, where nothing moves", () => {
  assertEquals(frozenBy(1, { normalise: "lr*size", rate: () => 0 }).flat(), []);
});

Deno.test("below with size divides by the elements of each component", () => {
  const gradNorm = Object.fromEntries(COMPONENTS.map(({ path }) => [path, [32]]));
  const [, set] = frozenSets(below("gradNorm", 0.8, { normalise: "size" }), lookOf({ gradNorm }, [1]));
  assertEquals(set, COMPONENTS.filter(({ size }) => 32 / size < 0.8).map(({ path }) => path).sort());
});

Deno.test("gradES hands metric and normalisation on", () => {
  const policy = gradES({
    tau: 0.91,
    alpha: 0,
    metric: "weightDelta",
    normalise: "lr*size",
    components: "*",
  });
  const rate = () => 0.1;
  const look = lookOf({ weightDelta: adamDeltas(rate) }, STEP_NUMBERS, STEP_NUMBERS.map(rate));
  assertEquals(frozenSets(policy, look)[1], ALL);
});
