import { InputError } from "../core/errors.ts";
import type { FreezePolicy } from "../core/policy.ts";
import { blocksOf } from "./blocks.ts";
import { definePolicy } from "./define_policy.ts";
import { checkSeed, randomOrder } from "./random.ts";
import { labelOf, select, type Selector } from "./selector.ts";

/** Options of {@link rotate}. */
export interface RotateOptions {
  /** Steps for which blocks stay active, a whole number above 0. */
  readonly every: number;
  /** Blocks active at a time, a whole number above 0; 1 when absent. */
  readonly active?: number;
  /**
   * The order of turns; `up` when absent: from the bottom (`up`) or the top (`down`), in an order shuffled anew each round
   * (`shuffled`: BAdam), or drawn independently for every turn (`random`: LISA).
   */
  readonly order?: "up" | "down" | "shuffled" | "random";
  /** A whole number, for `shuffled` and `random`; 0 when absent. */
  readonly seed?: number;
  /** Components that are always active and belong to no block; none when absent. */
  readonly always?: Selector;
}

/**
 * BAdam and LISA: trains a few blocks at a time, in turn, and freezes the others.
 *
 * When: memory for the optimizer's state is short, or each step must be cheap. Cost: none, it measures nothing; a
 * thawed block starts with empty moments.
 *
 * A block is a layer; what lies below the layers is one block, what lies above another, by {@link blocksOf}. If
 * `active` does not divide the number of blocks, the last turn of a round has fewer. Training acts at looks: let
 * `every` be a multiple of `lookEvery`. Until the first look everything trains.
 *
 * Sources: Luo et al., "BAdam", arXiv 2404.02827: `{ every, order: "shuffled" }`. Pan et al., "LISA",
 * arXiv 2403.17919: `{ every, active, order: "random", always: (c) => c.layer === null }`. Thawed
 * components start with empty moments, as in BAdam, and a short warm-up, as in neither.
 *
 * @param options Turns, order, seed
 * @returns The policy; its `init` throws an InputError when the model has fewer blocks than `active`
 * @throws {InputError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { rotate } from "@firn/train/policies";
 *
 * const layer = (n: number) =>
 *   ({ path: `layers.${n}`, layer: n, parameters: [], kind: "linear", size: 4 }) as const;
 * const policy = rotate({ every: 10 });
 * const start = policy.init([0, 1, 2].map(layer), { steps: 100 });
 * const frozen = (step: number) =>
 *   policy.frozen(policy.next(start, { steps: [step], loss: [1], learningRate: [0.1], readings: {} }));
 * assertEquals(frozen(9), ["layers.1", "layers.2"]);
 * assertEquals(frozen(10), ["layers.0", "layers.2"]);
 * ```
 */
export function rotate(options: RotateOptions): FreezePolicy {
  const { every, active = 1, order = "up", seed = 0, always } = options;
  for (const [name, value] of [["every", every], ["active", active]] as const) {
    if (!(Number.isInteger(value) && value >= 1)) {
      throw new InputError(`Cannot rotate blocks as "${name}" must be a whole number above 0: got ${value}`);
    }
  }
  checkSeed(seed);
  const chance = order === "shuffled" || order === "random" ? `, seed ${seed}` : "";
  const fixed = always === undefined ? "" : `, always ${labelOf(always)}`;
  const name = `rotate(${active} every ${every}, ${order}${chance}${fixed})`;
  return definePolicy({
    name,
    init(components) {
      const kept = always === undefined ? [] : select(always, components);
      const { below, layers, above } = blocksOf(components);
      const blocks = [below, ...layers, above]
        .map((paths) => paths.filter((path) => !kept.includes(path))).filter((paths) => paths.length > 0);
      if (blocks.length >= active) return { turn: 0, blocks };
      throw new InputError(
        `Cannot rotate ${active} blocks at a time as the model has ${blocks.length}: lower "active"`,
      );
    },
    next: (state, { step }) => ({ ...state, turn: Math.floor(step / every) }),
    frozen({ turn, blocks }) {
      const round = Math.ceil(blocks.length / active);
      const [draw, at] = order === "random" ? [turn, 0] : [Math.floor(turn / round), turn % round];
      const line = lineOf(order, { count: blocks.length, seed, draw }).slice(at * active, (at + 1) * active);
      return blocks.filter((_, i) => !line.includes(i)).flat();
    },
    reason: () => ({ signal: "step", value: null, threshold: null, rule: name }),
  });
}

function lineOf(
  order: RotateOptions["order"],
  { count, seed, draw }: { readonly count: number; readonly seed: number; readonly draw: number },
): number[] {
  if (order === "shuffled" || order === "random") return randomOrder(count, { seed, draw });
  const line = Array.from({ length: count }, (_, i) => i);
  return order === "up" ? line : line.reverse();
}
