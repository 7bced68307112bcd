/**
 * Which signals of which parameters a step measures.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import { gradientMoments } from "../../optim/gradient_moments.ts";
import { chain, type Moment, momentPath, type Optimizer } from "../../optim/optimizer.ts";
import type { Component, FreezePolicy, Signal } from "../../policy.ts";
import type { Leaves, Path } from "../../tree.ts";
import { checkPaths } from "./check_paths.ts";
import { moduleOf } from "./components.ts";

/** Whether a step measures a signal of a parameter. */
export type IsMeasured = (signal: Signal, path: Path) => boolean;

/**
 * Asks a policy what to measure.
 *
 * @param policy The policy; without one nothing is measured
 * @param components All components
 * @returns Which signals of which parameters are measured
 * @throws {InputError} When the policy names what is no component
 */
export function measuredSignals(
  policy: FreezePolicy | undefined,
  components: readonly Component[],
): IsMeasured {
  const paths = components.map(({ path }) => path), asked = new Map<Signal, ReadonlySet<Path>>();
  for (const signal of policy?.signals ?? []) {
    const named = policy!.measured?.(signal, components) ?? paths;
    checkPaths(named, { policy: policy!, from: "measured", components });
    asked.set(signal, new Set(named));
  }
  return (signal, path) => asked.get(signal)?.has(moduleOf(path)) ?? false;
}

/**
 * Finds the moment that a signal is measured of: the first one with its meaning that every parameter has in its own shape.
 *
 * @param optimizer The optimizer
 * @param signal The signal
 * @returns The moment; undefined when the optimizer declares none
 */
export function momentFor(
  { moments }: Pick<Optimizer, "moments">,
  signal: "firstMoment" | "secondMoment",
): Moment | undefined {
  return moments.find(({ meaning, shape, complete = shape === undefined }) => meaning === signal && complete);
}

/**
 * Gives an optimizer the moments that a policy asks for and it does not keep.
 *
 * @param optimizer The optimizer
 * @param policy The policy
 * @returns An optimizer with the same updates
 */
export function withMoments(optimizer: Optimizer, policy: FreezePolicy | undefined): Optimizer {
  const signals = policy?.signals.filter((s) => s === "firstMoment" || s === "secondMoment") ?? [];
  return signals.every((signal) => momentFor(optimizer, signal))
    ? optimizer
    : chain(gradientMoments(), optimizer);
}

/**
 * Refuses an optimizer that keeps state beside what it declares: training could not tell what freezes with a parameter.
 *
 * @param optimizer The optimizer
 * @param params Parameters that are trained
 * @throws {InputError} When a piece of its state is neither a declared moment nor shared state
 */
export function checkMoments(optimizer: Optimizer, params: Leaves): void {
  const trainable = [...params.keys()];
  const shared = optimizer.init(new Map(), trainable);
  const declared = new Set(
    trainable.flatMap((path) => optimizer.moments.map((moment) => momentPath(moment, path))),
  );
  for (const path of optimizer.init(params, trainable).keys()) {
    if (shared.has(path) || declared.has(path)) continue;
    throw new InputError(
      `Cannot train with "${optimizer.name}" as its state "${path}" must be one of its "moments", ` +
        "or shared state that is there without parameters too",
    );
  }
}
