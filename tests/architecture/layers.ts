/**
 * Which folder may import which.
 *
 * @module
 */

import { edges } from "./imports.ts";
import type { Offence, Source } from "./source.ts";

/**
 * The house from the ground up. A file belongs to the row with the longest name that its path begins with. It may
 * import files of its own row and of the rows above it, in this list; names in one row are on one level.
 */
export const LAYERS: readonly (readonly string[])[] = [
  ["kernels/"],
  ["core/counted.ts", "core/errors.ts", "core/inspect.ts", "core/json_rules.ts"],
  ["core/arguments.ts"],
  ["core/spec.ts"],
  ["core/fingerprint.ts"],
  ["core/kernel_call.ts"],
  ["core/tensor.ts"],
  ["core/sources.ts"],
  ["core/tree.ts"],
  ["core/policy.ts"],
  ["core/ops/"],
  ["core/graph.ts"],
  ["core/grad.ts"],
  ["core/nn/"],
  ["core/models/"],
  ["core/optim/"],
  ["core/host/"],
  ["core/data/"],
  ["core/train/ranks.ts"],
  ["core/plan/types.ts"],
  [
    "core/plan/alias.ts",
    "core/plan/strides.ts",
    "core/plan/predicates.ts",
    "core/plan/storage.ts",
    "core/plan/cost.ts",
    "core/plan/rows.ts",
    "core/plan/kept_copy.ts",
  ],
  ["core/plan/buffers.ts"],
  ["core/plan/rewrite/"],
  ["core/plan/unbounded.ts"],
  ["core/plan/weight_copies.ts"],
  ["core/plan/precision.ts"],
  ["core/plan/fuse/"],
  ["core/plan/lower/"],
  ["core/plan/memory/"],
  ["core/plan/prefix/"],
  ["core/plan/plan.ts"],
  ["core/runtime/"],
  ["core/tune/"],
  ["core/infer/"],
  ["core/train/memory.ts", "core/train/parameter_exchange.ts", "core/train/skipped_steps.ts"],
  ["core/objectives/"],
  ["core/train/types.ts"],
  ["core/train/options.ts"],
  ["core/train/freeze/"],
  ["core/train/state/"],
  ["core/train/step/"],
  ["core/train/"],
  ["core/ranks/"],
  ["core/checkpoint/"],
  ["core/evaluation/"],
  ["core/hub/"],
  ["core/huggingface/"],
  ["core/report/"],
  ["policies/"],
  ["mod.ts"],
];

/** The imports that lead down the list, and the files that stand in no row of it. */
export function upwardImports(
  sources: readonly Source[],
  layers: readonly (readonly string[])[] = LAYERS,
): Offence[] {
  const homeless = sources.filter(({ path }) => row(path, layers) < 0)
    .map(({ path }) => ({ path, line: 1, text: "stands in no row of LAYERS" }));
  const upward = edges(sources).filter(({ path, to }) => {
    const own = row(path, layers), other = row(to, layers);
    return own >= 0 && (other < 0 || other > own);
  });
  return [...homeless, ...upward];
}

function row(path: string, layers: readonly (readonly string[])[]): number {
  const names = layers.flat().filter((name) => path.startsWith(name)).sort((a, b) => b.length - a.length);
  return layers.findIndex((names_) => names_.includes(names[0]));
}
