/**
 * Runs that go on where their device is lost.
 *
 * @module
 */

import { DeviceLostError, survivingLoss } from "@firn/train";
import type { Table, Values } from "./flags.ts";
import { isModule } from "./policies.ts";
import { print } from "./print.ts";
import { launchedPlace } from "./ranks.ts";
import { OF_THIS_MACHINE, type RunRequest, type RunTable } from "./saved_flags.ts";

/** A run whose device was lost while it trained. */
export class LostRunError extends DeviceLostError {
  override name = "LostRunError";
  /** The command line that goes on with it; null for the one that it had, which went on with it already. */
  readonly args: readonly string[] | null;

  /** Names the folder of the run, and what went wrong. */
  constructor(
    cause: DeviceLostError,
    { folder, args }: { readonly folder: string; readonly args: readonly string[] | null },
  ) {
    super(`${cause.message}; go on with --resume ${folder}`, { cause });
    this.args = args;
  }
}

/**
 * The loss of a device in what a run threw.
 *
 * @param error What it threw
 * @param run Its folder, its flags, and whether its command line went on from a checkpoint
 * @returns The loss; null where the error is another
 */
export function lostRun(
  error: unknown,
  { folder, flags, request: { checkpoint } }: {
    readonly folder: string;
    readonly flags: Values<Table>;
    readonly request: Pick<RunRequest<RunTable>, "checkpoint">;
  },
): LostRunError | null {
  // Writing what was to be saved may have failed, too.
  const cause = error instanceof SuppressedError ? error.suppressed : error;
  if (!(cause instanceof DeviceLostError) || cause.closed) return null;
  // Another rate, or where the data lies now, stands in no checkpoint yet.
  if (checkpoint !== null) return new LostRunError(cause, { folder, args: null });
  const { policy } = flags;
  const words = OF_THIS_MACHINE.flatMap((name) => {
    const value = flags[name];
    if (value === undefined || value === null || value === false) return [];
    return value === true ? [`--${name}`] : [`--${name}`, `${value}`];
  });
  const named = typeof policy === "string" && isModule(policy) ? ["--policy", policy] : [];
  return new LostRunError(cause, { folder, args: ["--resume", folder, ...named, ...words] });
}

/**
 * Runs a command that can resume. Where its device is lost while it trains, the same implementation of WebGPU is opened once more,
 * and the run goes on from its last checkpoint. Of several ranks, the others are at another step than the checkpoint: all end.
 *
 * @param args The command line
 * @param command The command
 * @throws {DeviceLostError} When the device is lost before a run began, or a second time
 */
export async function survivingRun(
  args: readonly string[],
  command: (args: readonly string[]) => Promise<void>,
): Promise<void> {
  if ((await launchedPlace()).size > 1) return await command(args);
  await survivingLoss(async (lost) => {
    if (lost === null) return await command(args);
    if (!(lost instanceof LostRunError)) throw lost;
    print(`\nlost        ${(lost.cause as Error).message}; opening it once more`);
    await command(lost.args ?? args);
  });
}
