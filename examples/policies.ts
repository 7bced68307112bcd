/**
 * Freeze policies by the names that `--policy` takes.
 *
 * @module
 */

import { InputError } from "@firn/train";
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
 * @throws {InputError} When the module is missing or exports no policy
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
  const made = await importDefault(name, "--policy");
  if (isPolicy(made)) return made;
  throw new InputError(
    `Cannot use "${name}" as its default export must be a freeze policy: got ${typeof made}`,
  );
}

/**
 * What a module exports by default.
 *
 * @param path Its path, from the current folder
 * @param flag The flag that named it
 * @returns The export
 * @throws {InputError} When there is no such module
 */
export async function importDefault(path: string, flag: string): Promise<unknown> {
  const url = new URL(path, `file://${Deno.cwd()}/`);
  const module = await import(url.href).catch((cause) => {
    if (cause.code !== "ERR_MODULE_NOT_FOUND") throw cause;
    throw new InputError(`Cannot use "${path}" as it must be a module: ${cause.message} Check ${flag}`, {
      cause,
    });
  });
  return module.default;
}

/** Whether something is a freeze policy, as far as one can see. */
export function isPolicy(made: unknown): made is FreezePolicy {
  const policy = made as Partial<FreezePolicy> | null | undefined;
  return typeof policy?.next === "function" && typeof policy?.frozen === "function";
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
