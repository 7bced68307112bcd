/**
 * Why ranks ended: the first that fails writes it to a file that `./firn ranks` prints last. Launchers end the others by a signal,
 * and say a lot.
 *
 * @module
 */

import { RANK } from "./device_plan.ts";
import { WHY_VARIABLE } from "./launch_plan.ts";

/** Milliseconds in which rank 0 speaks first of what all ranks find wrong: it then ends the others. */
const SPEAKS_FIRST = 1000;

/** The value of a variable that this process may read; undefined where it may not. */
function variable(name: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable: name });
  return state === "granted" ? Deno.env.get(name) : undefined;
}

/** The number of this process among those that a launcher of MPI started; 0 where none did. */
function rankHere(): number {
  return Number(RANK.map(variable).find((text) => /^\d{1,7}$/.test(text ?? "")) ?? 0);
}

/**
 * Notes why this rank ends, if it is the first one. What all ranks find wrong, such as a flag, rank 0 alone is to say.
 *
 * @param text What is printed of it
 * @returns Whether it is to be printed: another rank has not said the same
 */
export async function noteWhy(text: string): Promise<boolean> {
  const rank = rankHere(), path = variable(WHY_VARIABLE), [reason] = text.trim().split("\n");
  if (rank > 0) await new Promise((resolve) => setTimeout(resolve, SPEAKS_FIRST));
  if (path === undefined) return true;
  try {
    await Deno.writeTextFile(path, `rank ${rank} ended all: ${reason}\n`, { createNew: true });
    return true;
  } catch (error) {
    // On another host there is no such folder, and a disk may be full: why this rank ends is said in any case.
    if (!(error instanceof Deno.errors.AlreadyExists)) return true;
    return !(await Deno.readTextFile(path)).includes(`: ${reason}\n`);
  }
}

/** Whether a rank has noted why it ends. */
export async function hasFailed(): Promise<boolean> {
  const path = variable(WHY_VARIABLE);
  if (path === undefined) return false;
  return await Deno.lstat(path).then(() => true, (error) => {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  });
}
