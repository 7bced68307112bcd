/**
 * How long steps take, from look to look, and changes of the frozen set.
 *
 * @module
 */

/** A clock for the runs of a training, each by its owner. */
export interface StepClock {
  /** Begins the steps after a look. */
  begin(owner: object, step: number): void;
  /** Milliseconds a step since then; null when they did not begin here. */
  since(owner: object, step: number): number | null;
  /** Does a part of the work for a frozen set: the first one begins it, others add to it. */
  changing<R>(owner: object, part: "first" | "more", work: () => R): R;
  /** Milliseconds that the work for the last frozen set took; null when nothing was done here. */
  change(owner: object): number | null;
}

/** Makes a clock. It keeps no run alive. */
export function stepClock(): StepClock {
  const begun = new WeakMap<object, { readonly at: number; readonly step: number }>();
  const changes = new WeakMap<object, number>();
  return {
    begin: (owner, step) => void begun.set(owner, { at: performance.now(), step }),
    since(owner, step) {
      const from = begun.get(owner);
      return from === undefined || from.step >= step
        ? null
        : (performance.now() - from.at) / (step - from.step);
    },
    changing(owner, part, work) {
      const from = performance.now(), before = part === "first" ? 0 : changes.get(owner) ?? 0;
      const took = (): void => void changes.set(owner, before + performance.now() - from);
      const result = work();
      if (result instanceof Promise) result.then(took, () => {});
      else took();
      return result;
    },
    change: (owner) => changes.get(owner) ?? null,
  };
}
