/**
 * The environment of the process.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { nodeProcess } from "./node.ts";

/** Looks up variables of an environment. */
export type Environment = (name: string) => Promise<string | undefined>;

/**
 * Looks up a variable of the environment. Deno asks nobody for the permission.
 *
 * @param name Its name
 * @param mend What to run with when Deno may not read it
 * @returns Its value; undefined when it is not set or empty, and where there is no environment, such as in a browser
 * @throws {InputError} When Deno may not read it
 */
export async function hostEnvironment(name: string, mend: string): Promise<string | undefined> {
  const { Deno: deno } = globalThis;
  if (deno === undefined) return nodeProcess()?.env[name] || undefined;
  const { state } = await deno.permissions.query({ name: "env", variable: name });
  if (state !== "granted") {
    throw new InputError(
      `Cannot look up "${name}" as Deno must be allowed to read that variable of the environment: it is not; ${mend}`,
    );
  }
  return deno.env.get(name) || undefined;
}
