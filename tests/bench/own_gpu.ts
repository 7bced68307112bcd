/**
 * Programs of the benchmarks that begin anew with a GPU of their own: drivers take what a process sees as it starts.
 *
 * @module
 */

import { devicePlan, LaunchError } from "../../examples/device_plan.ts";
import { UsageError } from "../../examples/flags.ts";
import { deviceOf } from "../../examples/gpu.ts";
import { thisMachine } from "../../examples/machine.ts";
import { printError } from "../../examples/print.ts";

/**
 * The words that start a program of the benchmarks as this process was started, with the stand-ins for packages if it has them.
 *
 * @param url Its module
 * @returns Words, to which arguments are added
 */
export function programOf(url: string): string[] {
  const map = import.meta.resolve("@std/assert").startsWith("file:")
    ? ["--import-map=tests/stand_ins/import_map.json"]
    : [];
  return [Deno.execPath(), "run", "--no-check", "--no-lock", "-A", ...map, new URL(url).pathname];
}

/**
 * Starts this program anew with a GPU of its own, and ends with its status. It returns where this process has one, or there is
 * nothing to choose.
 *
 * @param url The module of the program
 * @param args Its arguments; `--device ADDRESS` names the GPU
 * @param options Whether the process is a rank, which gets the next GPU where none is named
 * @throws {UsageError} When there is no such GPU, or this system lets nobody choose
 */
export async function startOnOwnGpu(
  url: string,
  args: readonly string[],
  { ranked }: { readonly ranked: boolean },
): Promise<void> {
  if (await deviceOf({}) !== null) return;
  const plan = await devicePlan(args, { machine: thisMachine(), ranked }).catch((error: Error) => {
    throw error instanceof LaunchError ? new UsageError(error.message) : error;
  });
  if (plan === null) return;
  if (plan.said !== undefined) printError(plan.said);
  const [program, ...words] = [...plan.through, ...programOf(url), ...args];
  const { code } = await new Deno.Command(program, { args: words, env: plan.env }).spawn().status;
  Deno.exit(code);
}
