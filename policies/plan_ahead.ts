import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { addReasons, type FrozenReasons } from "./frozen_reasons.ts";
import { wrapPolicy } from "./wrap_policy.ts";

/** Options of {@link planAhead}. */
export interface PlanAheadOptions {
  /** Steps by which the frozen set follows that of the policy, a whole number above 0; those between two looks when absent. */
  readonly after?: number;
}

/** A frozen set, and the step after which it counts. */
type Coming = { readonly due: number; readonly frozen: FrozenReasons };

/**
 * Lets the frozen set follow that of a policy one look later, so that the steps of the new set are planned, and their shaders
 * compiled, while the device works.
 *
 * Without it the device waits at each change, some tens of milliseconds for a small model and more for a deep one. What freezes
 * trains for one more look instead, and what thaws is measured one look later. Training ends when the policy ends it. When: steps
 * are short, and the policy changes the set at many looks.
 *
 * @param policy The policy. What wraps the result must pass on what it announces, which {@link patience}, {@link thaw} and
 * {@link worthwhile} cannot: only the set that counts in the end is planned
 * @param options By how many steps
 * @returns The policy that is followed later
 * @throws {InputError} When `after` is not a whole number above 0
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { planAhead, stopAt } from "@firn/train/policies";
 *
 * const policy = planAhead(stopAt(2));
 * const component = { path: "a", layer: 0, parameters: ["a.weight"], kind: "linear", size: 4 } as const;
 * const lookAt = (step: number) => ({ steps: [step], loss: [1], learningRate: [0.1], readings: {} });
 * const start = policy.init([component], { steps: 100, lookEvery: 10 });
 * const after10 = policy.next(start, lookAt(10));
 * assertEquals([policy.frozen(after10), policy.coming?.(after10)], [[], ["a"]]);
 * assertEquals(policy.frozen(policy.next(after10, lookAt(20))), ["a"]);
 * ```
 */
export function planAhead(policy: FreezePolicy, { after }: PlanAheadOptions = {}): FreezePolicy {
  if (after !== undefined && !(Number.isInteger(after) && after >= 1)) {
    throw new InputError(
      `Cannot follow "${policy.name}" later as "after" must be a whole number of steps above 0: got ${after}`,
    );
  }
  return wrapPolicy(policy, {
    name: `planAhead(${policy.name}${after === undefined ? "" : `, after ${after}`})`,
    init: (components, run) => ({
      inner: policy.init(components, run),
      after: after ?? run.lookEvery ?? 1,
      lookEvery: run.lookEvery ?? 1,
      /** The last step that was seen. */
      step: 0 as number,
      frozen: {} as FrozenReasons,
      coming: [] as readonly Coming[],
    }),
    next(state, { step, look }) {
      const inner = policy.next(state.inner, look), last = state.coming.at(-1)?.frozen ?? state.frozen;
      const wanted = policy.frozen(inner), isOther = !isSet(last, wanted);
      const reasons = (): FrozenReasons => addReasons(only(last, wanted), policy, inner);
      const all = isOther ? [...state.coming, { due: step + state.after, frozen: reasons() }] : state.coming;
      const due = all.findLast((coming) => coming.due <= step);
      return {
        ...state,
        inner,
        step,
        frozen: due?.frozen ?? state.frozen,
        coming: due === undefined ? all : all.filter((coming) => coming.due > step),
      };
    },
    frozen: ({ frozen }) => Object.keys(frozen),
    coming({ coming, frozen, step, after, lookEvery }) {
      // What the policy decides before the next look may count there.
      if (after < lookEvery) return null;
      const next = coming.findLast(({ due }) => due <= step + lookEvery);
      return Object.keys(next?.frozen ?? frozen);
    },
    stopped: policy.stopped &&
      (({ inner }, frozen) => policy.stopped!(inner, [...new Set([...frozen, ...policy.frozen(inner)])])),
    reason: ({ frozen }, path) => frozen[path],
  });
}

/** Whether a set has some members and no others. */
function isSet(set: FrozenReasons, members: readonly string[]): boolean {
  const all = new Set(members);
  return all.size === Object.keys(set).length && Object.keys(set).every((path) => all.has(path));
}

/** The members of a set that are among some. */
function only(set: FrozenReasons, members: readonly string[]): FrozenReasons {
  const all = new Set(members);
  return Object.fromEntries(Object.entries(set).filter(([path]) => all.has(path)));
}
