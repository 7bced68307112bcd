/**
 * Freeze policies by the names that `--policy` takes.
 *
 * @module
 */

import type { FreezePolicy } from "@firn/train";
import { gradES, type GradESOptions, prefix, snr } from "@firn/train/policies";
import { UsageError } from "./flags.ts";

/** Those that need no number which depends on the model. */
const POLICIES = new Map<
  string,
  () => FreezePolicy | undefined
>([
  ["snr", () => snr()],
  ["prefix", () => prefix()],
  ["none", () => undefined],
]);

/** The names, for the help. */
export const POLICY_NAMES: string = `gradES, ${[...POLICIES.keys()].join(", ")}`;

/**
 * Makes a policy.
 *
 * @param name One of {@link POLICY_NAMES}, or the path of a module whose default export is a policy
 * @param options Of gradES
 * @returns The policy; undefined for `none`
 * @throws {UsageError} When there is no such name
 * @throws {TypeError} When the module is missing or exports no policy
 */
export async function policyOf(name: string, options: GradESOptions): Promise<FreezePolicy | undefined> {
  if (name === "gradES") return gradES(options);
  const named = POLICIES.get(name);
  if (named !== undefined) return named();
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
