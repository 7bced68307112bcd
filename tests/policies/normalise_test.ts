/** What readings are divided by, by hand; `tests/loop/rates_test.ts` has it in real training. */

import { assertEquals } from "@std/assert";
import { below } from "../../policies/mod.ts";
import { COMPONENTS, frozenSets, lookOf } from "./looks.ts";

/** The same reading of all components. */
const alike = (values: readonly number[]): Record<string, readonly number[]> =>
  Object.fromEntries(COMPONENTS.map(({ path }) => [path, values]));
const largerThan = (limit: number): string[] =>
  COMPONENTS.filter(({ size }) => size > limit).map(({ path }) => path).sort();

Deno.test("below with size divides by the elements of each component", () => {
  const look = lookOf({ gradNorm: alike([32]) }, [1]);
  const [, set] = frozenSets(below("gradNorm", 0.8, { normalise: "size" }), look);
  assertEquals(set, largerThan(32 / 0.8));
});

Deno.test("below with lr*size divides by the elements times the rate of the same step", () => {
  const look = lookOf({ weightDelta: alike([32, 32, 32]) }, [1, 2, 3], [1, 2, 0.5]);
  const [, ...sets] = frozenSets(below("weightDelta", 0.8, { normalise: "lr*size" }), look);
  assertEquals(sets, [1, 2, 0.5].map((rate) => largerThan(32 / rate / 0.8)));
});

Deno.test("below with lr*size freezes nothing at a learning rate of 0, where nothing moves", () => {
  const look = lookOf({ weightDelta: alike([0, 0]) }, [1, 2], [0, 0]);
  assertEquals(frozenSets(below("weightDelta", 1, { normalise: "lr*size" }), look).flat(), []);
});
