import { type Component, type FreezePolicy, signalName } from "../core/policy.ts";
import { replayOf } from "../core/report/replay_of.ts";
import type { Line } from "../core/report/types.ts";
import { costOf } from "./cost.ts";
import { paceOf } from "./pace.ts";
import { courseOf, type SimulatedChange, type SimulatedEnding } from "./simulated_course.ts";
import { simulatedLog } from "./simulated_log.ts";

/** A number of a run by the model of costs: without any freeze, and under the policy. */
export interface Saving {
  /** All planned steps without a freeze. */
  readonly full: number;
  /** The steps that the policy takes, with what it freezes. */
  readonly simulated: number;
}

/** What a policy would have done in a run. */
export interface Simulation {
  /** Name of the policy. */
  readonly policy: string;
  /** Signals that the policy measures and the log does not have: its decisions are then not those that it would make. */
  readonly missing: readonly string[];
  /** Share of the readings that the policy would have taken that the log has, 0 to 1; 1 when it would take none. */
  readonly known: number;
  /** Changes of the frozen set, in order. */
  readonly changes: readonly SimulatedChange[];
  /** Paths that are frozen at the end. */
  readonly frozen: readonly string[];
  /** Share of the elements of all components that are frozen at the end. */
  readonly share: number;
  /** Steps that it takes. */
  readonly steps: number;
  /** Why and where it ends training; null where the log ends before that. */
  readonly ending: SimulatedEnding | null;
  /** Floating-point operations by the costs of components; null when the log has none. */
  readonly flops: Saving | null;
  /** Seconds of steps by these, at the paces that the log measured; null when the log has no steps or no costs. */
  readonly seconds: Saving | null;
  /** Bytes of the optimizer's state that are free at the end; null when the log does not tell what the optimizer keeps. */
  readonly freed: number | null;
  /** The run that it would have been, as a log: the loss is absent from the step on where another set is frozen than was. */
  readonly lines: readonly Line[];
}

/**
 * Replays a policy over the readings of a finished run, without training: what it would have frozen when, and saved.
 *
 * The policy is told what training would tell it. What it freezes is not measured, except by its probes; what it does not
 * measure is hidden. Asked again by the log of its own run it decides exactly as it did. For another policy the readings are
 * those of the run that was recorded: from its first change on they are an estimate, and what the loss would have been is not
 * known. `missing` and `known` tell what the log lacks: record a run with `record(...signals)`.
 *
 * Operations are those of {@link stepCost}; of all steps that were planned where the policy ends training, else of the steps
 * in the log. Seconds follow the measured milliseconds of steps: a line through the medians of the frozen sets of the log,
 * or in proportion where there was one. Values of a frozen prefix that are cached are not modelled.
 *
 * @param policy The policy
 * @param lines The log of a run, as `readLog` gives it
 * @returns What it would have done
 * @throws {DataError} When the log has no start or no components, or more signals and components than a run has
 * @throws {InputError} When the policy freezes what is no component of the run, or lacks what it needs, such as validation losses
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { type Line } from "@firn/train/report";
 * import { bottomFreeze, simulate } from "@firn/train/policies";
 *
 * const cost = (depth: number) => ({ forward: 1, dX: 1, dW: 1, depth });
 * const layer = (n: number) =>
 *   ({ path: `${n}`, layer: n, parameters: [], kind: "linear", size: 4, cost: cost(n) }) as const;
 * const step = { kind: "step", loss: 1, learningRate: 0.1, stepMs: 8, launches: 9, flops: 8, frozen: 0, readings: {} } as const;
 * const log: Line[] = [
 *   { kind: "start", config: { steps: 4 }, adapter: "a GPU" },
 *   { kind: "components", components: [0, 1, 2, 3].map(layer), run: { steps: 4, lookEvery: 2 } },
 *   ...[1, 2, 3, 4].map((at) => ({ ...step, step: at })),
 * ];
 * const { changes, flops } = simulate(bottomFreeze(0.5), log);
 * assertEquals(changes.map(({ step, frozen }) => [step, frozen]), [[2, ["0", "1"]]]);
 * assertEquals(flops, { full: 44, simulated: 36 }); // steps of 11 and of 7
 * ```
 */
export function simulate(policy: FreezePolicy, lines: readonly Line[]): Simulation {
  const replay = replayOf(lines), { run, components, looks } = replay;
  const course = courseOf(policy, replay), { sets, ending, frozen } = course;
  const prices = components.flatMap(({ path, cost }) => cost === undefined ? [] : [{ path, ...cost }]);
  const full = costOf(prices, () => true), priced = full > 0 && prices.length === components.length;
  const steps = ending?.step ?? looks.at(-1)?.steps.at(-1) ?? 0;
  const held = new Set(frozen),
    sizeOf = (which: readonly Component[]): number => which.reduce((sum, { size }) => sum + size, 0);
  const size = sizeOf(components.filter(({ path }) => held.has(path)));
  const costs = priced ? sets.map(({ active }) => costOf(prices, (path) => active.has(path))) : [];
  const count = ending === null ? sets.length : Math.max(run.steps, sets.length);
  const pace = priced ? paceOf(lines, prices) : null;
  return {
    policy: policy.name,
    missing: policy.signals.map(signalName).filter((name) =>
      !looks.some(({ readings }) => Object.hasOwn(readings, name))
    ),
    known: course.wanted === 0 ? 1 : course.found / course.wanted,
    changes: course.changes,
    frozen,
    share: components.length === 0 ? 0 : size / sizeOf(components),
    steps,
    ending,
    flops: priced ? { full: count * full, simulated: total(costs) } : null,
    seconds: pace && { full: count * pace(full) / 1000, simulated: total(costs.map(pace)) / 1000 },
    freed: run.optimizer === undefined ? null : 4 * run.optimizer.moments.length * size,
    lines: simulatedLog(lines, { policy: policy.name, course, costs, pace, full }),
  };
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
