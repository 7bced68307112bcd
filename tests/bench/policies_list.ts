/**
 * The policies that are compared, by name, and their random twins.
 *
 * @module
 */

import { InputError } from "@firn/train";
import type { Component, FreezePolicy, Signal } from "@firn/train";
import {
  closePrefix,
  costAware,
  definePolicy,
  gradES,
  layerLinears,
  prefix,
  randomSubset,
  rotate,
  schedule,
  snr,
  thaw,
} from "@firn/train/policies";
import { importDefault, isPolicy } from "../../examples/policies.ts";
import { randomOrder } from "../../policies/random.ts";

/** What a policy is made for. */
export interface PolicyRun {
  /** Planned steps, T. */
  readonly steps: number;
  /** Share of them in which GradES freezes nothing. */
  readonly alpha: number;
  readonly seed: number;
  /** Thresholds found by the probe, by signal. */
  readonly tau: { readonly [S in Signal]?: number };
}

/** A policy to compare. */
export interface Candidate {
  readonly label: string;
  /** Signals whose threshold the probe has to find. */
  readonly thresholds: readonly Signal[];
  make(run: PolicyRun): FreezePolicy;
}

function graded(
  metric: Signal,
  wrap: (policy: FreezePolicy) => FreezePolicy = (policy) => policy,
): Omit<Candidate, "label"> {
  return {
    thresholds: [metric],
    make: ({ alpha, tau }) => wrap(gradES({ tau: tau[metric]!, alpha, metric })),
  };
}

/** Steps between draws of policies that draw. */
const draws = ({ steps }: PolicyRun): number => Math.max(1, Math.round(steps / 20));

const NAMED: Readonly<Record<string, Omit<Candidate, "label">>> = {
  "gradES": graded("gradNorm"),
  "gradES-delta": graded("gradDelta"),
  "gradES-weight": graded("weightDelta"),
  "gradES-closed": graded("gradNorm", closePrefix),
  "gradES-thaw": graded("gradNorm", thaw),
  "snr": { thresholds: [], make: () => snr() },
  "costAware": {
    thresholds: [],
    make: () => costAware({ targetSpeedup: 1.25 }),
  },
  "costAware-saving": { thresholds: [], make: () => costAware({ maxSaving: 0.5 }) },
  "prefix": { thresholds: [], make: () => prefix() },
  "schedule": { thresholds: [], make: ({ alpha }) => schedule({ first: alpha }) },
  "random": {
    thresholds: [],
    make: (run) => randomSubset({ share: 0.5, every: draws(run), seed: run.seed }),
  },
  "rotate": {
    thresholds: [],
    make: (run) => rotate({ every: draws(run), order: "shuffled", seed: run.seed }),
  },
};

/** Names that {@link candidateOf} knows. */
export const POLICIES: readonly string[] = Object.keys(NAMED);

/**
 * A policy by its name, or from a module.
 *
 * @param name A name, or the path of a module whose default export is a freeze policy or makes one of a {@link PolicyRun}
 * @returns The policy
 * @throws {InputError} When it is neither
 * @throws {InputError} When the module cannot be loaded or exports something else
 */
export async function candidateOf(name: string): Promise<Candidate> {
  if (Object.hasOwn(NAMED, name)) return { label: name, ...NAMED[name] };
  if (!/\.[jt]s$/.test(name)) {
    throw new InputError(
      `Cannot compare "${name}" as a policy is one of ${
        POLICIES.join(", ")
      }, or the path of a module: it is neither`,
    );
  }
  const made = await importDefault(name, "--policies");
  const make = (run: PolicyRun): FreezePolicy => {
    const policy = typeof made === "function" ? made(run) : made;
    if (isPolicy(policy)) return policy;
    throw new InputError(
      `Cannot compare "${name}" as its default export must be a freeze policy or make one: got ${typeof policy}`,
    );
  };
  make({ steps: 1, alpha: 0.5, seed: 0, tau: {} });
  return { label: name.replace(/^.*\//, "").replace(/\.[jt]s$/, ""), thresholds: [], make };
}

/** How many components were frozen from a step on. */
export interface Change {
  readonly step: number;
  readonly frozen: number;
}

/**
 * Freezes as many components at the same times as another policy did, but which ones is left to chance.
 *
 * @param changes What the other did
 * @param options Which components it may freeze, and the seed
 * @returns The policy
 */
export function randomTwin(
  changes: readonly Change[],
  { among, seed }: { readonly among: (component: Component) => boolean; readonly seed: number },
): FreezePolicy {
  return definePolicy({
    name: `randomTwin(${
      changes.map(({ step, frozen }) => `${frozen} from ${step}`).join(", ")
    }, seed ${seed})`,
    init(components) {
      const free = components.filter(among);
      return { step: 0, order: randomOrder(free.length, { seed, draw: 0 }).map((i) => free[i].path) };
    },
    next: (state, { step }) => ({ ...state, step }),
    frozen: ({ step, order }) =>
      order.slice(0, changes.findLast((change) => change.step <= step)?.frozen ?? 0),
  });
}

/** What a policy chose from: the layers' matrices where it froze nothing else, else all components. */
export function choiceOf(
  frozen: readonly string[],
  components: readonly Component[],
): (component: Component) => boolean {
  const linears = new Set(components.filter(layerLinears).map(({ path }) => path));
  return frozen.every((path) => linears.has(path)) ? layerLinears : () => true;
}
