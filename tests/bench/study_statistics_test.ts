/**
 * Statistics of the study against SciPy 1.17.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import {
  deviationOf,
  holm,
  incompleteBeta,
  interpolated,
  meanOf,
  pairedDifference,
  tProbability,
  tQuantile,
} from "./study_statistics.ts";

Deno.test("quantiles and tails of Student's t are those of scipy.stats.t", () => {
  // df, ppf(0.975), 2 * sf(2.3), 2 * sf(0.1)
  const table = [
    [1, 12.706204736174694, 0.26109517417724554, 0.936548965138893],
    [4, 2.7764451051977934, 0.08293903711238236, 0.9251558409394532],
    [9, 2.262157162798205, 0.04699938892186315, 0.9225364479566812],
    [30, 2.0422724563012378, 0.028581387287141748, 0.9210096117902712],
  ];
  for (const [df, quantile, far, near] of table) {
    assertAlmostEquals(tQuantile(0.05, df), quantile, 1e-9 * quantile);
    assertAlmostEquals(tProbability(2.3, df), far, 1e-12);
    assertAlmostEquals(tProbability(-0.1, df), near, 1e-12);
  }
});

Deno.test("incompleteBeta is scipy.special.betainc", () => {
  assertAlmostEquals(incompleteBeta(0.3, { a: 2, b: 0.5 }), 0.03784096948581308, 1e-13);
  assertAlmostEquals(incompleteBeta(0.9, { a: 0.5, b: 0.5 }), 0.7951672353008665, 1e-13);
  assertAlmostEquals(incompleteBeta(0.85, { a: 15, b: 0.5 }), 0.028524303269336262, 1e-13);
  assertEquals([incompleteBeta(0, { a: 1, b: 1 }), incompleteBeta(1, { a: 1, b: 1 })], [0, 1]);
});

Deno.test("a paired difference is that of scipy.stats.ttest_rel", () => {
  const a = [0.91, 0.87, 0.93, 0.88, 0.90], b = [0.89, 0.86, 0.90, 0.88, 0.87];
  const found = pairedDifference(a.map((x, i) => x - b[i]))!;
  assertAlmostEquals(found.mean, 0.018, 1e-12);
  assertAlmostEquals(found.p, 0.03668198940044108, 1e-10);
  assertAlmostEquals(found.low, 0.001810682152912968, 1e-10);
  assertAlmostEquals(found.high, 0.034189317847087064, 1e-10);
  assertEquals(found.count, 5);
  assertEquals(pairedDifference([1]), null);
  assertEquals(pairedDifference([0, 0])!.p, 1);
  assertEquals(pairedDifference([0.25, 0.25])!.p, 1, "two equal differences are no proof");
  // 11 rows of 1,024 more, as accuracies of six digits have them.
  const rounded = [0.920898 - 0.910156, 0.922852 - 0.912109];
  assert(rounded[0] !== rounded[1]);
  assertEquals(pairedDifference(rounded)!.p, 1, "nor are two that differ by rounding");
  assert(pairedDifference([0.25, 0.25, 0.251])!.p < 0.05);
  assertAlmostEquals(deviationOf([1, 2, 3, 4]), Math.sqrt(5 / 3), 1e-12);
  assert(Number.isNaN(meanOf([])));
});

Deno.test("Holm's correction multiplies the smallest by all, the next by one less, and never falls", () => {
  // As statsmodels' multipletests([...], method="holm").
  assertEquals(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02]);
  assertEquals(holm([0.9, 0.6]), [1, 1]);
  assertEquals(holm([]), []);
});

Deno.test("interpolated lies on the line between neighbours, and is nothing outside", () => {
  const points = [[4, 10], [1, 0], [2, 6]] as const;
  assertEquals([1, 1.5, 2, 3, 4].map((x) => interpolated(points, x)), [0, 3, 6, 8, 10]);
  assertEquals([0.9, 4.1].map((x) => interpolated(points, x)), [null, null]);
  assertEquals(interpolated([], 1), null);
});
