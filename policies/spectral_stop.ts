import { InputError } from "../core/errors.ts";
import type { Component, FreezePolicy } from "../core/policy.ts";
import { spectralConcentration } from "../core/train/freeze/spectral_concentration.ts";
import { definePolicy } from "./define_policy.ts";
import { layerLinears } from "./grad_es.ts";
import { labelOf, select, type Selector } from "./selector.ts";
import { shareOf } from "./share_of.ts";

/** Options of {@link spectralStop}. */
export interface SpectralStopOptions {
  /** Training ends when spectra change by less than this share of their fastest change so far, above 0; 0.1 when absent. */
  readonly share?: number;
  /** Windows in a row for which that holds, a whole number above 0; 2 when absent. */
  readonly patience?: number;
  /** Share of the planned steps that a window has, above 0 and at most 1; 0.05 when absent. */
  readonly window?: number;
  /** Share of the planned steps before which training does not end, 0 to 1; 0.5 when absent. */
  readonly alpha?: number;
  /** Whose spectra; the matrices of the lowest layer when absent. */
  readonly components?: Selector;
}

/**
 * Ends training when the spectra of some weights have settled. It freezes nothing, and needs no validation data.
 *
 * When: training from scratch, or long fine-tuning, where spectra move. Cost: a product of each watched matrix with itself in
 * each step, `2 n^2 m` operations; name fewer with `components`, such as the projection to values of the lowest layer.
 *
 * What it reads is the signal `spectralConcentration`: `sum e^2 / (sum e)^2` over the eigenvalues e of `W^T W`, exact. The heavier
 * the tail of a spectrum, the larger it is. Logarithms are averaged over a window of steps; the change of a window is the mean,
 * over components, of how far these averages moved from those of the window before. Training ends when this change has been
 * below a share of its highest value for so many windows. So nothing depends on size or kind of the matrices. Where weights do
 * not move, such as in a warm-up from 0, nothing is compared.
 *
 * Source: He et al., "Early-stopping for Transformer model training", arXiv 2510.16074: the spectral density of the matrix of
 * values of a shallow layer turns heavy-tailed, then settles, and that tells when to stop. Deviations: the exponent of a power
 * law that is fitted to the eigenvalues, which takes a decomposition on the host, is replaced by a moment of the same
 * eigenvalues; all matrices of the lowest layer are watched unless told otherwise, as a policy knows no names; the criterion
 * for "settled" is Firn's, as only the abstract was at hand.
 *
 * @param options Share, windows, components
 * @returns The policy; its `init` throws an InputError when no component is selected
 * @throws {InputError} When an option is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { spectralStop } from "@firn/train/policies";
 *
 * const policy = spectralStop({ window: 0.1, patience: 1 });
 * const component = { path: "0", layer: 0, parameters: ["0.weight"], kind: "linear", size: 4 } as const;
 * const start = policy.init([component], { steps: 10 });
 * const spectralConcentration = { 0: [0.1, 0.2, 0.3, 0.35, 0.36, 0.361] };
 * const steps = [1, 2, 3, 4, 5, 6];
 * const state = policy.next(start, { steps, loss: steps, learningRate: steps, readings: { spectralConcentration } });
 * assertEquals(policy.stopped?.(state, []), true);
 * ```
 */
export function spectralStop(options: SpectralStopOptions = {}): FreezePolicy {
  const { share = 0.1, patience = 2, window = 0.05, alpha = 0.5, components: which = lowestLinears } =
    options;
  const within = (name: keyof SpectralStopOptions, holds: boolean, rule: string): void => {
    if (holds) return;
    throw new InputError(`Cannot stop by spectra as "${name}" must be ${rule}: got ${options[name]}`);
  };
  within("share", share > 0 && share < Infinity, "a number above 0");
  within("patience", Number.isInteger(patience) && patience >= 1, "a whole number above 0");
  within("window", window > 0 && window <= 1, "above 0 and at most 1");
  within("alpha", alpha >= 0 && alpha <= 1, "a share of all steps, 0 to 1");
  const chosen = (components: readonly Component[]): readonly string[] =>
    select(which === lowestLinears ? lowestOf(components) : which, components);
  return definePolicy<SpectralState>({
    name: `spectralStop(${share}, patience ${patience}, window ${window}, alpha ${alpha}, ${labelOf(which)})`,
    signals: [spectralConcentration],
    measured: (_, components) => chosen(components),
    init: (components, { steps }) => ({
      paths: chosen(components),
      span: Math.max(1, Math.round(shareOf(window, steps))),
      first: Math.ceil(shareOf(alpha, steps)),
      seen: 0,
      sums: {},
      before: {},
      highest: 0,
      settled: 0,
    }),
    next(state, { step, read }) {
      if (state.settled >= patience) return state;
      const logs = state.paths.map((path) => [path, Math.log(read(spectralConcentration, path))] as const)
        .filter(([, log]) => Number.isFinite(log));
      if (logs.length === 0) return state;
      const sums = { ...state.sums };
      for (const [path, log] of logs) {
        const { sum, count } = sums[path] ?? { sum: 0, count: 0 };
        sums[path] = { sum: sum + log, count: count + 1 };
      }
      const seen = state.seen + 1;
      if (seen % state.span !== 0) return { ...state, seen, sums };
      const means = Object.fromEntries(
        Object.entries(sums).map(([path, { sum, count }]) => [path, sum / count]),
      );
      const moves = Object.entries(means).flatMap(([path, mean]) =>
        Object.hasOwn(state.before, path) ? [Math.abs(mean - state.before[path])] : []
      );
      const now = { ...state, seen, sums: {}, before: { ...state.before, ...means } };
      if (moves.length === 0) return now;
      const change = moves.reduce((sum, move) => sum + move, 0) / moves.length;
      const holds = change < share * state.highest && step >= state.first;
      return { ...now, highest: Math.max(state.highest, change), settled: holds ? state.settled + 1 : 0 };
    },
    frozen: () => [],
    stopped: ({ settled }) => settled >= patience,
  });
}

/** Matrices of the lowest layer; where there are no layers, all of them. */
function lowestLinears({ kind }: Component): boolean {
  return kind === "linear";
}

function lowestOf(components: readonly Component[]): Selector {
  const lowest = Math.min(...components.filter(layerLinears).map(({ layer }) => layer!));
  return (component) => lowestLinears(component) && (lowest === Infinity || component.layer === lowest);
}

/** Sums of logarithms in the window so far, their means in the window before, and the highest change. */
type SpectralState = {
  readonly paths: readonly string[];
  readonly span: number;
  readonly first: number;
  /** Steps with readings. */
  readonly seen: number;
  readonly sums: { readonly [path: string]: { readonly sum: number; readonly count: number } };
  readonly before: { readonly [path: string]: number };
  readonly highest: number;
  /** Windows in a row with a small change. */
  readonly settled: number;
};
