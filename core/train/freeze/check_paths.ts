/**
 * Checks the names that a policy answers with.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import type { Component, FreezePolicy } from "../../policy.ts";
import type { Path } from "../../tree.ts";

/**
 * Refuses a name that is not that of a component: what it was meant to freeze would train on.
 *
 * @param named Paths that a policy names
 * @param options The policy, its function that named them, and all components
 * @throws {InputError} When a component does not exist; it names the nearest ones
 */
export function checkPaths(
  named: readonly Path[],
  { policy, from, components }: {
    readonly policy: FreezePolicy;
    readonly from: "frozen" | "coming" | "probed" | "measured";
    readonly components: readonly Component[];
  },
): void {
  const known = new Set(components.map(({ path }) => path)), stray = named.find((path) => !known.has(path));
  if (stray === undefined) return;
  const near = [...known].map((path) => [path, distance(`${stray}`, path)] as const)
    .sort(([, a], [, b]) => a - b).slice(0, 3).map(([path]) => `"${path}"`);
  throw new InputError(
    `Cannot follow "${policy.name}" as "${from}" must name components: there is no "${stray}"; ` +
      (near.length === 0 ? "the model has none" : `the nearest of ${known.size} are ${near.join(", ")}`),
  );
}

/** The edits that turn one name into another: characters added, left out or replaced (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length];
}
