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
  if (await isReadable(name)) return await hostVariable(name);
  throw new InputError(
    `Cannot look up "${name}" as Deno must be allowed to read that variable of the environment: it is not; ${mend}`,
  );
}

/**
 * Looks up a variable of the environment that may be out of reach.
 *
 * @param name Its name
 * @returns Its value; undefined where it is not set or empty, and where Deno may not read it
 */
export async function hostVariable(name: string): Promise<string | undefined> {
  if (!await isReadable(name)) return undefined;
  const { Deno: deno } = globalThis;
  return (deno?.env.get(name) ?? nodeProcess()?.env[name]) || undefined;
}

/** Whether Deno may read a variable, or this is no Deno. */
async function isReadable(variable: string): Promise<boolean> {
  const { Deno: deno } = globalThis, asked = await deno?.permissions.query({ name: "env", variable });
  return asked === undefined || asked.state === "granted";
}
