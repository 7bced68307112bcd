import { InputError } from "../core/errors.ts";
import type { FreezePolicy, Look } from "../core/policy.ts";
import { costOf, type Priced, pricesOf } from "./cost.ts";
import { addReasons, type FrozenReasons } from "./frozen_reasons.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/** Options of {@link worthwhile}. */
export interface WorthwhileOptions {
  /**
   * What a change of the frozen set costs, in steps as they are then, 0 or more. When absent, what it took by the clock: then a
   * run that is repeated may decide otherwise.
   */
  readonly change?: number;
  /** How many times its cost a change must save, above 0; 1 when absent. */
  readonly margin?: number;
}

/**
 * Lets the frozen set grow only when that saves more time than the change costs.
 *
 * A change is planned and recorded anew, which takes the host some tens of milliseconds whatever the batch: nothing beside
 * steps of a second, ten steps of a small model on a fast GPU. What the policy freezes waits until all of it that waits saves
 * more in the steps that are left, by the floating-point operations of {@link stepCost}; so a policy that freezes matrix after
 * matrix changes the set a few times, and near the end not at all. What thaws does so at once, and the policy ends training when
 * it would. When: steps are short, or the policy freezes a little at many looks. On several ranks, which must decide alike, and
 * before a change was timed, only `change` says what one costs; without it the set grows as the policy says.
 *
 * @param policy The policy; outermost, as what it freezes is trained on until it counts
 * @param options What a change costs, and how much more it must save
 * @returns The policy that changes less
 * @throws {InputError} When an option is out of range, or a component has no cost
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { stopAt, worthwhile } from "@firn/train/policies";
 *
 * const cost = { forward: 1, dX: 1, dW: 1, depth: 0 };
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4, cost } as const;
 * const look = { steps: [2], loss: [1], learningRate: [0.1], readings: {} };
 * const frozenIn = (steps: number) => {
 *   const policy = worthwhile(stopAt(2), { change: 10 });
 *   return policy.frozen(policy.next(policy.init([component], { steps }), look));
 * };
 * assertEquals(frozenIn(20), []); // half of each of 18 steps
 * assertEquals(frozenIn(30), ["a"]);
 * ```
 */
export function worthwhile(policy: FreezePolicy, options: WorthwhileOptions = {}): FreezePolicy {
  const { change, margin = 1 } = options;
  const within = (name: keyof WorthwhileOptions, holds: boolean, rule: string): void => {
    if (holds) return;
    throw new InputError(
      `Cannot weigh changes of "${policy.name}" as "${name}" must be ${rule}: got ${options[name]}`,
    );
  };
  within("change", change === undefined || change >= 0 && change < Infinity, "a number of steps from 0");
  within("margin", margin > 0 && margin < Infinity, "a number above 0");
  const parts = [
    ...change === undefined ? [] : [`change ${change}`],
    ...margin === 1 ? [] : [`margin ${margin}`],
  ];
  return wrapPolicy(policy, {
    name: `worthwhile(${[policy.name, ...parts].join(", ")})`,
    init: (components, run) => ({
      inner: policy.init(components, run),
      prices: pricesOf(components),
      steps: run.steps,
      held: {} as FrozenReasons,
    }),
    next(state, { step, look }) {
      const inner = policy.next(state.inner, look), { held, prices, steps } = state;
      const wanted = addReasons({}, policy, inner), paths = Object.keys(wanted);
      const thaws = Object.keys(held).some((path) => !Object.hasOwn(wanted, path));
      const saved = savedShare(prices, { held, wanted }) * (steps - step);
      const due = thaws ||
        paths.length > Object.keys(held).length && saved > margin * (change ?? stepsOfChange(look));
      return { ...state, inner, held: due ? wanted : held };
    },
    frozen: ({ held }) => Object.keys(held),
    stopped: policy.stopped &&
      (({ inner }, frozen) => policy.stopped!(inner, [...new Set([...frozen, ...policy.frozen(inner)])])),
    reason: ({ held }, path) => held[path],
  });
}

/** How much less a step costs with another frozen set, as a share of what it costs now. */
function savedShare(
  prices: readonly Priced[],
  { held, wanted }: { readonly held: FrozenReasons; readonly wanted: FrozenReasons },
): number {
  const [now, then] = [held, wanted].map((frozen) => costOf(prices, (path) => !Object.hasOwn(frozen, path)));
  return 1 - then / now;
}

/** How many steps the last change took; 0 when that is not known. */
function stepsOfChange({ changeMs, stepMs }: Look): number {
  return changeMs === undefined || stepMs === undefined ? 0 : changeMs / stepMs;
}
