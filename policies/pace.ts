import type { Line } from "../core/report/types.ts";
import { costOf, type Priced } from "./cost.ts";
import { quantileOf } from "./quantile.ts";

/**
 * Models the milliseconds of a step by its floating-point operations, from what a run measured: a line through the medians of
 * its frozen sets by least squares, or in proportion where these do not tell a line that rises.
 *
 * @param lines The log
 * @param prices Costs of all components
 * @returns Milliseconds of a step by its operations; null when the log has no steps, or its components cost nothing
 */
export function paceOf(lines: readonly Line[], prices: readonly Priced[]): ((cost: number) => number) | null {
  const frozen = new Set<string>(), spans = new Map<number, number[]>();
  let changed = true, lookMs = NaN;
  for (const line of lines) {
    if (line.kind === "freeze") {
      for (const path of line.thawed) frozen.delete(path);
      for (const path of line.frozen) frozen.add(path);
      [changed, lookMs] = [true, NaN];
    } else if (line.kind === "step") {
      // The first look after a change includes the compilation of new shaders.
      if (Number.isNaN(lookMs)) lookMs = line.stepMs;
      if (line.stepMs !== lookMs) changed = false;
      const cost = costOf(prices, (path) => !frozen.has(path)), key = changed ? -cost : cost;
      spans.set(key, [...spans.get(key) ?? [], line.stepMs]);
    }
  }
  const settled = [...spans].filter(([cost]) => cost > 0);
  // A run of one look has no other steps.
  const points = (settled.length > 0 ? settled : [...spans].map(([cost, ms]) => [-cost, ms] as const))
    .map(([cost, ms]) => ({ cost, ms: quantileOf(0.5, ms), weight: ms.length }));
  const weight = points.reduce((sum, point) => sum + point.weight, 0);
  const meanOf = (value: (point: typeof points[number]) => number): number =>
    points.reduce((sum, point) => sum + point.weight * value(point), 0) / weight;
  const x = meanOf(({ cost }) => cost), y = meanOf(({ ms }) => ms);
  if (!(x > 0)) return null;
  const slope = meanOf(({ cost, ms }) => (cost - x) * (ms - y)) / meanOf(({ cost }) => (cost - x) ** 2);
  const rises = slope > 0 && y - slope * x >= 0;
  return rises ? (cost) => y + slope * (cost - x) : (cost) => y * cost / x;
}
