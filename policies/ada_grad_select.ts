import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { blocksOf } from "./blocks.ts";
import { definePolicy } from "./define_policy.ts";
import { checkSeed, randomShares, randomStream } from "./random.ts";
import { labelOf, select, type Selector } from "./selector.ts";
import { shareOf } from "./share_of.ts";

/** Options of {@link adaGradSelect}. */
export interface AdaGradSelectOptions {
  /** Steps for which a choice holds, a whole number above 0. */
  readonly every: number;
  /** Share of the blocks that train at a time, above 0 and at most 1; 0.3 when absent. At least one does. */
  readonly share?: number;
  /** Share of the planned steps in which it explores; 1 / 3 when absent: the first of three epochs. */
  readonly explore?: number;
  /** Chance to explore at the first choice, 0 to 1; it falls exponentially, to a hundredth of it where exploring ends. 1 when absent. */
  readonly epsilon?: number;
  /** What is added to the number of times that a block was chosen, 1 or more; 1 when absent. */
  readonly delta?: number;
  /** A whole number; 0 when absent. The same seed gives the same choices, however often training looks or resumes. */
  readonly seed?: number;
  /** Components that are always active and belong to no block; none when absent. */
  readonly always?: Selector;
}

/**
 * AdaGradSelect: trains a share of the blocks at a time, at first those of the largest gradients, later those that were
 * chosen most often.
 *
 * When: memory for the optimizer's state is short. Cost: one sum per component and step; while it explores, the gradients of
 * frozen blocks too, which are probed. A thawed block starts with empty moments. Training acts at looks: let `every` be a
 * multiple of `lookEvery`. Until the first choice everything trains; it waits for readings.
 *
 * At each choice it explores with a chance that falls exponentially: the blocks whose gradients were largest since the last
 * choice train, by `sqrt(sum g^2)`. Else, and always once exploring has ended, it draws a chance for each block from a
 * Dirichlet distribution, whose concentrations are the numbers of times that blocks were chosen so far plus `delta`, and then
 * blocks by these chances, without replacement. A block is a layer; what lies below the layers is one block, what lies above
 * another, by {@link blocksOf}.
 *
 * Source: Kumar et al., "AdaGradSelect: An Adaptive Gradient-Guided Layer Selection Method for Efficient Fine-Tuning of
 * SLMs", arXiv 2512.15764: blocks by gradient norm, Dirichlet sampling by how often they were updated, epsilon-greedy in early
 * training. This follows the abstract and a public summary of the algorithm: epsilon falls exponentially within the first
 * epoch and is 0 after it, and concentrations are counts plus delta. Deviations: choices every so many steps in place of every
 * step, a norm over all steps since the last one, and the defaults, which are Firn's: neither source gives numbers. By the
 * summary the blocks of the largest drawn chances train, where this draws by these chances.
 *
 * @param options Time, share, chances
 * @returns The policy
 * @throws {InputError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { adaGradSelect } from "@firn/train/policies";
 *
 * const layer = (n: number) =>
 *   ({ path: `layers.${n}`, layer: n, parameters: [], kind: "linear", size: 4 }) as const;
 * const policy = adaGradSelect({ every: 2, share: 0.5 });
 * const start = policy.init([0, 1, 2, 3].map(layer), { steps: 100 });
 * const gradSquare = { "layers.0": [1, 1], "layers.1": [9, 9], "layers.2": [4, 4], "layers.3": [0, 0] };
 * const look = { steps: [1, 2], loss: [2, 1], learningRate: [0.1, 0.1], readings: { gradSquare } };
 * const state = policy.next(start, look); // the first choice explores
 * assertEquals(policy.frozen(state), ["layers.0", "layers.3"]);
 * assertEquals(policy.probed?.(state), ["layers.0", "layers.3"]);
 * ```
 */
export function adaGradSelect(options: AdaGradSelectOptions): FreezePolicy {
  const { every, share = 0.3, explore = 1 / 3, epsilon = 1, delta = 1, seed = 0, always } = options;
  check(options);
  checkSeed(seed);
  const fixed = always === undefined ? "" : `, always ${labelOf(always)}`;
  const name = `adaGradSelect(${share} every ${every}, explore ${
    Number(explore.toPrecision(3))
  }, epsilon ${epsilon}, delta ${delta}, seed ${seed}${fixed})`;
  return definePolicy<SelectState>({
    name,
    signals: ["gradSquare"],
    init(components, { steps }) {
      const kept = always === undefined ? [] : select(always, components);
      const { below, layers, above } = blocksOf(components);
      const blocks = [below, ...layers, above]
        .map((paths) => paths.filter((path) => !kept.includes(path))).filter((paths) => paths.length > 0);
      const none = blocks.map(() => 0);
      return {
        explored: shareOf(explore, steps),
        step: 0,
        blocks,
        squares: none,
        chosen: none,
        active: null,
        why: [],
      };
    },
    next(state, { step, read }) {
      const squares = state.squares.map((sum, b) =>
        state.blocks[b].map((path) => read("gradSquare", path)).filter(Number.isFinite)
          .reduce((total, square) => total + square, sum)
      );
      const now = { ...state, step, squares };
      const measured = squares.some((square) => square > 0);
      if (step % every !== 0 || state.active === null && !measured) return now;
      const random = randomStream({ seed, draw: step / every });
      const chance = step > state.explored
        ? 0
        : epsilon * 0.01 ** ((step - every) / Math.max(1, state.explored));
      const explores = random() < chance && measured;
      const worths = explores
        ? squares.map(Math.sqrt)
        : randomShares(state.chosen.map((count) => count + delta), random);
      // Largest keys log(u) / p draw without replacement by chances p (Efraimidis and Spirakis, 2006).
      const keys = explores ? worths : worths.map((worth) => Math.log(random()) / worth);
      const count = Math.max(1, Math.round(shareOf(share, keys.length)));
      const order = [...keys.keys()].sort((a, b) => keys[b] - keys[a] || a - b);
      const active = order.slice(0, count).sort((a, b) => a - b);
      return {
        ...now,
        squares: squares.map(() => 0),
        chosen: state.chosen.map((count, b) => count + (active.includes(b) ? 1 : 0)),
        active,
        why: worths.map((value) => ({ explores, value })),
      };
    },
    frozen: ({ blocks, active }) =>
      active === null ? [] : blocks.filter((_, b) => !active.includes(b)).flat(),
    probed: ({ blocks, explored, step }) => step < explored ? blocks.flat() : [],
    reason({ blocks, active, why }, path) {
      const { explores, value } = why[blocks.findIndex((paths) => paths.includes(path))];
      return {
        signal: explores ? "gradient norm of its block" : "drawn chance",
        value,
        threshold: explores ? Math.min(...active!.map((b) => why[b].value)) : null,
        rule: name,
      };
    },
  });
}

/** The state: sums of squares since the last choice, times chosen, and the blocks that train; null while all do. */
type SelectState = {
  /** Step up to which it explores. */
  readonly explored: number;
  readonly step: number;
  readonly blocks: readonly (readonly string[])[];
  readonly squares: readonly number[];
  readonly chosen: readonly number[];
  readonly active: readonly number[] | null;
  /** What each block was chosen by. */
  readonly why: readonly { readonly explores: boolean; readonly value: number }[];
};

/** Checks the ranges of options. */
function check(options: AdaGradSelectOptions): void {
  const within = (
    name: keyof AdaGradSelectOptions,
    holds: (value: number) => boolean,
    rule: string,
  ): void => {
    const value = options[name];
    if (value === undefined || holds(value as number)) return;
    throw new InputError(`Cannot select blocks as "${name}" must be ${rule}: got ${value}`);
  };
  within("every", (value) => Number.isInteger(value) && value >= 1, "a whole number above 0");
  within("share", (value) => value > 0 && value <= 1, "above 0 and at most 1");
  within("explore", (value) => value >= 0 && value <= 1, "a share of all steps, 0 to 1");
  within("epsilon", (value) => value >= 0 && value <= 1, "0 to 1");
  within("delta", (value) => value >= 1 && value < Infinity, "a number, 1 or more");
}
