/**
 * Which signals of which parameters a step measures.
 *
 * @module
 */

import { shown } from "../../arguments.ts";
import { InputError } from "../../errors.ts";
import { topological } from "../../graph.ts";
import { gradientMoments } from "../../optim/gradient_moments.ts";
import { chain, type Moment, momentPath, type Optimizer } from "../../optim/optimizer.ts";
import {
  type Component,
  type FreezePolicy,
  type SignalDefinition,
  signalName,
  SIGNALS,
  type SignalTerms,
} from "../../policy.ts";
import { leaf } from "../../sources.ts";
import type { Spec } from "../../spec.ts";
import type { Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import { builtIn } from "./built_in_signals.ts";
import { checkPaths } from "./check_paths.ts";
import { moduleOf } from "./components.ts";

/** Whether a step measures a signal, by its name, of a parameter. */
export type IsMeasured = (signal: string, path: Path) => boolean;

/** What a signal is called that needs the gradient of the step before. */
export const PREVIOUS_GRADIENT = "previousGradient";
/** Moments that training keeps where the optimizer does not. */
const OWN_MOMENTS: readonly string[] = ["firstMoment", "secondMoment"];

/**
 * The signals of a policy as steps measure them.
 *
 * @param policy The policy; without one nothing is measured
 * @param optimizer The optimizer
 * @returns Definitions, each once
 * @throws {InputError} When there is no such signal, two have one name, or one needs what the optimizer does not keep
 */
export function signalsOf(
  policy: Pick<FreezePolicy, "name" | "signals"> | undefined,
  optimizer: Pick<Optimizer, "name" | "moments">,
): readonly SignalDefinition[] {
  const found = new Map<string, SignalDefinition>();
  for (const signal of new Set(policy?.signals)) {
    const refuse = (why: string): never => {
      const named = shown(typeof signal === "object" ? signal?.name ?? signal : signal);
      throw new InputError(`Cannot measure ${named} for "${policy!.name}" as ${why}`);
    };
    const isKnown = typeof signal === "string"
      ? SIGNALS.includes(signal)
      : typeof signal?.terms === "function";
    if (!isKnown) {
      refuse(`the signals are ${SIGNALS.join(", ")}; one of your own is what defineSignal gives`);
    }
    const definition = typeof signal === "string" ? builtIn(signal) : signal, { name } = definition;
    if (found.has(name)) {
      refuse("another signal has that name; define it once, outside of the function that makes the policy");
    }
    const missing = definition.needs.find((need) =>
      need !== PREVIOUS_GRADIENT && !OWN_MOMENTS.includes(need) && momentFor(optimizer, need) === undefined
    );
    if (missing !== undefined) {
      const kept = optimizer.moments.map(({ name, meaning }) => `${name} (${meaning})`).join(", ") || "none";
      refuse(`it needs ${shown(missing)}, which "${optimizer.name}" does not keep: its moments are ${kept}`);
    }
    found.set(name, definition);
  }
  // Columns of a ring stand in this order, also in states that earlier versions saved.
  const place = ({ name }: SignalDefinition): number => (SIGNALS as readonly string[]).indexOf(name) >>> 0;
  return [...found.values()].sort((a, b) => place(a) - place(b));
}

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
  const paths = components.map(({ path }) => path), asked = new Map<string, ReadonlySet<Path>>();
  for (const signal of policy?.signals ?? []) {
    const named = policy!.measured?.(signal, components) ?? paths;
    checkPaths(named, { policy: policy!, from: "measured", components });
    asked.set(signalName(signal), new Set(named));
  }
  return (signal, path) => asked.get(signal)?.has(moduleOf(path)) ?? false;
}

/**
 * Finds the moment that a signal is measured of: the first one with its meaning, or its name, that every parameter has in its own
 * shape.
 *
 * @param optimizer The optimizer
 * @param need Meaning or name
 * @returns The moment; undefined when the optimizer declares none
 */
export function momentFor({ moments }: Pick<Optimizer, "moments">, need: string): Moment | undefined {
  const whole = moments.filter(({ shape, complete = shape === undefined }) => complete);
  return whole.find(({ meaning }) => meaning === need && meaning !== "other") ??
    whole.find(({ name }) => name === need);
}

/**
 * Gives an optimizer the moments that a policy asks for and it does not keep.
 *
 * @param optimizer The optimizer
 * @param policy The policy
 * @returns An optimizer with the same updates
 */
export function withMoments(optimizer: Optimizer, policy: FreezePolicy | undefined): Optimizer {
  const needs = signalsOf(policy, optimizer).flatMap(({ needs }) => needs);
  return needs.every((need) => !OWN_MOMENTS.includes(need) || momentFor(optimizer, need) !== undefined)
    ? optimizer
    : chain(gradientMoments(), optimizer);
}

/**
 * What a signal sums up for a parameter.
 *
 * @param signal The signal
 * @param of Values of the parameter
 * @returns The terms; null when nothing is measured
 */
export function leafTerms(
  signal: SignalDefinition,
  { path, spec: { shape } }: { readonly path: Path; readonly spec: Spec },
): { readonly terms: SignalTerms; readonly probes: boolean } | null {
  const made = (name: string): Tensor => leaf(name, { shape, dtype: "f32" });
  const named = signal.needs.map((need) => [need, made(`signal.${need}`)] as const);
  const update = made("signal.update"), previousGradient = made("signal.previous");
  const terms = signal.terms({
    path,
    weight: made("signal.weight"),
    gradient: made("signal.gradient"),
    update,
    previousGradient,
    moments: Object.fromEntries(named),
  });
  if (terms === null) return null;
  const read = new Set(topological(terms.sums));
  return { terms, probes: [update, previousGradient, ...named.map(([, t]) => t)].every((t) => !read.has(t)) };
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
