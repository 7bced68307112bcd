/**
 * How long steps take, from look to look.
 *
 * @module
 */

/** A clock for the runs of a training, each by its owner. */
export interface StepClock {
  /** Begins the steps after a look. */
  begin(owner: object, step: number): void;
  /** Milliseconds a step since then; null when they did not begin here. */
  since(owner: object, step: number): number | null;
}

/** Makes a clock. It keeps no run alive. */
export function stepClock(): StepClock {
  const begun = new WeakMap<object, { readonly at: number; readonly step: number }>();
  return {
    begin: (owner, step) => void begun.set(owner, { at: performance.now(), step }),
    since(owner, step) {
      const from = begun.get(owner);
      return from === undefined || from.step >= step
        ? null
        : (performance.now() - from.at) / (step - from.step);
    },
  };
}
