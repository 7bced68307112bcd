/**
 * Which signals of which parameters a step measures.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import { type Moment, momentPath, type Optimizer } from "../../optim/optimizer.ts";
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
 * Finds the moment that a signal is measured of: the one with its meaning and the shape of the parameter.
 *
 * @param optimizer The optimizer
 * @param signal The signal
 * @returns The moment; undefined when the optimizer declares none
 */
export function momentFor(
  { moments }: Pick<Optimizer, "moments">,
  signal: "firstMoment" | "secondMoment",
): Moment | undefined {
  return moments.find(({ meaning, shape }) => meaning === signal && shape === undefined);
}

/**
 * Refuses a policy that needs a moment which the optimizer does not keep: it would wait for readings forever.
 *
 * @throws {InputError} When it does
 */
export function checkSignals(policy: FreezePolicy | undefined, optimizer: Optimizer): void {
  for (const signal of policy?.signals ?? []) {
    if ((signal !== "firstMoment" && signal !== "secondMoment") || momentFor(optimizer, signal)) continue;
    throw new InputError(
      `Cannot measure "${signal}" for "${
        policy!.name
      }" as "${optimizer.name}" keeps no such moment: train with adamW`,
    );
  }
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
