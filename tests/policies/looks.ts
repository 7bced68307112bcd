/** Synthetic readings for the tests of freeze policies. */

import type { Component, FreezePolicy, Json, Look, Signal } from "../../core/policy.ts";

export const STEPS = 20;

const KINDS = { q_proj: "linear", up_proj: "linear", input_norm: "norm" } as const;

/** Two layers with two linear maps of different size and a norm each, an embedding and a head; a chain by cost. */
export const COMPONENTS: readonly Component[] = [
  component("embed_tokens", { layer: null, kind: "embedding", size: 64 }),
  ...[0, 1].flatMap((layer) =>
    Object.entries(KINDS).map(([name, kind], i) =>
      component(`layers.${layer}.${name}`, { layer, kind, size: 16 * (i + 1) })
    )
  ),
  component("lm_head", { layer: null, kind: "linear", size: 64 }),
].map((c, depth) => ({ ...c, cost: { forward: c.size, dX: c.size, dW: c.size, depth } }));

export const PATHS: readonly string[] = COMPONENTS.map(({ path }) => path);

export function component(path: string, rest: Pick<Component, "layer" | "kind" | "size">): Component {
  return { path, parameters: [`${path}.weight`], ...rest };
}

/** Readings in 0..1 from a seed, one in eight absent, and validation losses, every other one. */
export function randomLook(seed: number, steps = STEPS): Look {
  const random = randomFrom(seed);
  const numbers = Array.from({ length: steps }, (_, i) => i + 1);
  const values = () =>
    Object.fromEntries(PATHS.map((path) => [path, numbers.map(() => random() < 1 / 8 ? NaN : random())]));
  const readings = {
    gradNorm: values(),
    gradDelta: values(),
    weightDelta: values(),
    benefit: values(),
    firstMoment: values(),
    secondMoment: values(),
    gradSquare: values(),
    spectralConcentration: values(),
  };
  const look = lookOf(readings, numbers, numbers.map(() => 0.5 + random()));
  return { ...look, validation: numbers.map(() => random() < 1 / 2 ? NaN : random()) };
}

/** Whether a policy ends training, with nobody else freezing anything. */
export function ends<S extends Json>(policy: FreezePolicy<S>, state: S): boolean {
  return policy.stopped?.(state, policy.frozen(state)) ?? false;
}

/** A look of given readings and step numbers; learning rates are 1 unless given, the loss falls with the step. */
export function lookOf(
  readings: Look["readings"],
  steps: readonly number[],
  learningRate: readonly number[] = steps.map(() => 1),
): Look {
  return { steps, loss: steps.map((step) => 1 / step), learningRate, readings };
}

/** The steps `from <= index < to` of a look. */
export function cut(look: Look, from: number, to: number): Look {
  const readings: { [S in Signal]?: Record<string, readonly number[]> } = {};
  for (const signal of Object.keys(look.readings) as Signal[]) {
    readings[signal] = Object.fromEntries(
      Object.entries(look.readings[signal]!).map(([path, values]) => [path, values.slice(from, to)]),
    );
  }
  const part = lookOf(readings, look.steps.slice(from, to), look.learningRate.slice(from, to));
  return look.validation ? { ...part, validation: look.validation.slice(from, to) } : part;
}

/** The state of a policy after each step of a look, the first before any step. */
export function statesOf(policy: FreezePolicy, look: Look): Json[] {
  const states = [policy.init(COMPONENTS, { steps: STEPS })];
  look.steps.forEach((_, i) => states.push(policy.next(states[i], cut(look, i, i + 1))));
  return states;
}

/** The frozen set after each step, sorted; the first before any step. */
export function frozenSets(policy: FreezePolicy, look: Look): string[][] {
  return statesOf(policy, look).map((state) => [...policy.frozen(state)].sort());
}

/** Numbers in 0..1 from a seed: the minimal standard generator of Park and Miller. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => (state = state * 48271 % 2147483647) / 2147483647;
}
