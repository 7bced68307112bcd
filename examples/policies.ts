/**
 * Freeze policies by the names that `--policy` takes.
 *
 * @module
 */

import type { FreezePolicy } from "@firn/train";
import { costAware, earlyStopping, gradES, type GradESOptions, prefix, snr } from "@firn/train/policies";
import { type Flag, UsageError, whole } from "./flags.ts";

/** Those that need no number which depends on the model; from the planned steps. */
const POLICIES = new Map<
  string,
  (steps: number) => FreezePolicy | undefined
>([
  ["snr", () => snr()],
  ["prefix", () => prefix()],
  ["costAware", () => costAware({ targetSpeedup: 1.3 })],
  ["earlyStopping", () => earlyStopping()],
  ["none", () => undefined],
]);

/** The names, for the help. */
export const POLICY_NAMES: string = `gradES, ${[...POLICIES.keys()].join(", ")}`;

/**
 * Makes a policy.
 *
 * @param name One of {@link POLICY_NAMES}, or the path of a module whose default export is a policy
 * @param options Planned steps, and the options of gradES
 * @returns The policy; undefined for `none`
 * @throws {UsageError} When there is no such name
 * @throws {TypeError} When the module is missing or exports no policy
 */
export async function policyOf(
  name: string,
  { steps, ...options }: GradESOptions & { readonly steps: number },
): Promise<FreezePolicy | undefined> {
  if (name === "gradES") return gradES(options);
  const named = POLICIES.get(name);
  if (named !== undefined) return named(steps);
  if (!/\.[jt]s$/.test(name)) {
    throw new UsageError(`--policy must be one of ${POLICY_NAMES}, or a module: got "${name}"`);
  }
  const url = new URL(name, `file://${Deno.cwd()}/`);
  const { default: made } = await import(url.href).catch((cause) => {
    if (cause.code !== "ERR_MODULE_NOT_FOUND") throw cause;
    throw new TypeError(`Cannot use "${name}" as it must be a module: ${cause.message} Check --policy`, {
      cause,
    });
  });
  if (typeof made?.next !== "function" || typeof made?.frozen !== "function") {
    throw new TypeError(
      `Cannot use "${name}" as its default export must be a freeze policy: got ${typeof made}`,
    );
  }
  return made;
}

/** The flag about validation. */
export const VALIDATE: Flag<number | null> = whole(
  "steps between validations on a part of the training data; a twentieth of all for earlyStopping, else none",
  null,
);

/**
 * Decides how often to validate.
 *
 * @param flags The policy's name, the planned steps and the value of {@link VALIDATE}
 * @returns Steps from one validation to the next; null for none
 */
export function validateEvery(
  { policy, validate, steps }: {
    readonly policy: string;
    readonly validate: number | null;
    readonly steps: number;
  },
): number | null {
  return validate ?? (policy === "earlyStopping" ? Math.ceil(steps / 20) : null);
}
