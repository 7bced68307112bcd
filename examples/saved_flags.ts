/**
 * The flags of a run that goes on. A checkpoint is data that anyone may have written: its flags are read as those of a
 * command line are, and a policy that is a module runs only when the command line names it again.
 *
 * @module
 */

import { DataError, InputError, type Json, NotFoundError } from "@firn/train";
import { type Checkpoint, loadCheckpoint } from "@firn/train/checkpoint";
import type { Ranks } from "@firn/train/ranks";
import { CONFIG_FLAGS, readCommand, typedValue } from "./config.ts";
import {
  type Flag,
  positive,
  type Table,
  text,
  toggle,
  topic,
  UsageError,
  type Values,
  whole,
} from "./flags.ts";
import { OBSERVE_FLAGS } from "./observe_flags.ts";
import { lastCheckpoint } from "./output.ts";
import { checkPolicyName, isModule } from "./policies.ts";
import { launchedPlace } from "./ranks.ts";

/** Flags of every command that can go on with a run. */
export const RUN_FLAGS: {
  readonly checkpoint: Flag<number>;
  readonly "checkpoint-minutes": Flag<number | null>;
  readonly keep: Flag<number>;
  readonly "keep-best": Flag<boolean>;
  readonly resume: Flag<string | null>;
  readonly config: Flag<string | null>;
  readonly survive: Flag<boolean>;
} = topic("run", {
  ...CONFIG_FLAGS,
  checkpoint: whole("steps between checkpoints", 50),
  "checkpoint-minutes": positive("minutes between checkpoints, too; none by time when absent", null),
  keep: whole("checkpoints that stay until the run is finished, the newest", 2),
  "keep-best": toggle("keep the state of the lowest validation loss as checkpoint.best.safetensors"),
  resume: text("DIR", "continue the interrupted run of that output folder, with its flags", null),
  survive: toggle("go on with those that are left where a rank other than the first dies; needs Open MPI 5"),
});

/** Flags of every command that may stand beside `--resume`: they change no result. */
const BESIDE_RESUME: readonly string[] = [
  "resume",
  "checkpoint",
  "checkpoint-minutes",
  "keep",
  "keep-best",
  "memory",
  "no-tune",
  "gpu",
  "unsafe-gpu",
  "device",
  "survive",
  ...Object.keys(OBSERVE_FLAGS),
];

/** Flags that are not taken from a checkpoint: what anyone may have written loads no library, drops no check and opens no port. */
export const OF_THIS_MACHINE: readonly string[] = ["gpu", "unsafe-gpu", "device", "watch", "survive"];

/** Flags of a command that can go on with a run. */
export type RunTable = Table & typeof RUN_FLAGS & { readonly out: Flag<string | null> };

/** A command that can go on with a run. */
export interface RunCommand<F extends RunTable> {
  /** Its name. */
  readonly command: string;
  readonly table: F;
  /** The flag of the learning rate, which a run that goes on may get anew. */
  readonly rate: keyof F & string;
  /** Flags that may stand beside `--resume`, as they say where things lie now. */
  readonly beside: readonly (keyof F & string)[];
  /** Refuses values that do not go together. */
  readonly check?: (values: Values<F>) => void;
}

/** What a command line asks for. */
export interface RunRequest<F extends RunTable> {
  readonly values: Values<F>;
  /** Where the run goes on; null when it begins. */
  readonly checkpoint: Checkpoint | null;
  /** SHA-256 of the module of its policy, of a run that goes on; null for a policy with a name. */
  readonly policyHash: string | null;
  /** Whether a run that goes on gets another learning rate. */
  readonly newRate: boolean;
  /** Whether `--help` was asked for, or its topic. */
  readonly help: boolean | string;
}

/**
 * Reads a command line, and with `--resume` the flags of the checkpoint.
 *
 * @param args The arguments
 * @param options The command
 * @returns Values, and the checkpoint
 * @throws {UsageError} When the command line cannot be understood, or changes what the run is
 * @throws {NotFoundError} When there is no checkpoint
 * @throws {DataError} When the checkpoint is damaged, or not of this command
 */
export async function readRun<F extends RunTable>(
  args: readonly string[],
  { command, table, rate, beside, check }: RunCommand<F>,
): Promise<RunRequest<F>> {
  const { values, given, help } = await readCommand(args, { table, check });
  const folder = values.resume as string | null;
  if (folder === null || help) return { values, checkpoint: null, policyHash: null, newRate: false, help };
  const may = [...BESIDE_RESUME, rate, ...beside];
  const odd = given.find((name) => !may.includes(String(name)));
  if (odd !== undefined) throw new UsageError(`--resume keeps the flags of its run: drop --${String(odd)}`);
  const place = await launchedPlace(), checkpoint = await checkpointOf(folder, place);
  const { flags, policyHash, ranks } = savedFlags(checkpoint.extra, {
    command,
    table,
    path: lastCheckpoint(folder),
  });
  checkRanks(folder, { ranks, started: place.size });
  checkPolicy(flags as { readonly policy?: unknown }, {
    ...given.includes("policy") && { policy: String(values.policy) },
    policyHash,
    folder,
  });
  const now = Object.fromEntries(given.map((name) => [name, values[name]]));
  const resumed = { ...flags, ...now, out: folder };
  check?.(resumed);
  return {
    values: resumed,
    checkpoint,
    policyHash,
    newRate: given.includes(rate),
    help,
  };
}

/**
 * What a checkpoint keeps of a run, for {@link readRun}.
 *
 * @param command The name of the command
 * @param flags Values of its flags
 * @param policyHash SHA-256 of the module of its policy
 * @returns JSON
 */
export function extraOf(
  command: string,
  { flags, policyHash, ranks = 1 }: {
    readonly flags: Values<Table>;
    readonly policyHash: string | null;
    /** Processes that train together; 1 when absent. */
    readonly ranks?: number;
  },
): Json {
  return { ...flags, resume: null, config: null, command, policyHash, ...ranks > 1 && { ranks } } as Json;
}

async function checkpointOf(folder: string, ranks: Pick<Ranks, "rank" | "size">): Promise<Checkpoint> {
  const path = lastCheckpoint(folder);
  try {
    return await loadCheckpoint(path, { ranks });
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    throw new NotFoundError(
      `Cannot resume "${folder}" as there is no "${path}": the run is finished or never began; start another`,
      { cause: error },
    );
  }
}

/**
 * Reads the flags that a checkpoint keeps, each as its flag on a command line would be.
 *
 * @param extra What was saved beside the state
 * @param options The command, its flags, and the path of the checkpoint
 * @returns Values, the SHA-256 of the module of the policy, and the number of processes
 * @throws {DataError} When a flag is unknown, or a value is not one that the flag takes
 */
export function savedFlags<F extends Table>(
  extra: Json,
  { command, table, path }: { readonly command: string; readonly table: F; readonly path: string },
): { readonly flags: Values<F>; readonly policyHash: string | null; readonly ranks: number } {
  const refuse = (what: string, seen: unknown): never => {
    const shown = JSON.stringify(seen)?.slice(0, 60);
    throw new DataError(`Cannot resume from "${path}" as ${what}: got ${shown}; start another run`);
  };
  if (typeof extra !== "object" || extra === null || Array.isArray(extra)) {
    return refuse(`it must keep the flags of ${command}`, extra);
  }
  const { command: of = command, policyHash = null, ranks = 1, ...saved } = extra as {
    readonly [name: string]: Json;
  };
  if (of !== command) return refuse(`it must be of ${command}`, of);
  if (policyHash !== null && !(typeof policyHash === "string" && /^[0-9a-f]{64}$/.test(policyHash))) {
    return refuse("the hash of its policy must be a SHA-256", policyHash);
  }
  if (!(Number.isSafeInteger(ranks) && ranks as number >= 1)) {
    return refuse("its number of ranks must be a whole number above 0", ranks);
  }
  const unknown = Object.keys(saved).find((name) => !Object.hasOwn(table, name));
  if (unknown !== undefined) return refuse(`${command} must have the flags that it keeps`, unknown);
  const flags = Object.entries(table).map(([name, flag]) => {
    const kept = Object.hasOwn(saved, name) && !OF_THIS_MACHINE.includes(name);
    const value = kept ? saved[name] : flag.fallback;
    if (value === flag.fallback) return [name, value];
    return [name, readSaved(flag, value) ?? refuse(`its "${name}" must be one that --${name} takes`, value)];
  });
  return {
    flags: Object.fromEntries(flags),
    policyHash: policyHash as string | null,
    ranks: ranks as number,
  };
}

/** The value, when the flag takes it; else undefined. */
function readSaved(flag: Flag<unknown>, value: unknown): unknown {
  try {
    return typedValue(flag, value);
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

/** Refuses to go on with another number of processes: each would see other batches, and the sums would round otherwise. */
function checkRanks(
  folder: string,
  { ranks, started }: { readonly ranks: number; readonly started: number },
): void {
  if (ranks === started) return;
  throw new InputError(
    `Cannot resume "${folder}" as it must go on with as many ranks as it had, ${ranks}: there are ${started}; ${
      ranks === 1 ? "start it without mpirun" : `start it by ./firn ranks ${ranks}, or mpirun -n ${ranks}`
    }`,
  );
}

/** Refuses a policy other than that of the run, and one that is a module and was not named again. */
function checkPolicy(
  flags: { readonly policy?: unknown },
  { policy, policyHash, folder }: {
    readonly policy?: string;
    readonly policyHash: string | null;
    readonly folder: string;
  },
): void {
  if (flags.policy === undefined) return;
  const saved = String(flags.policy);
  if (!isModule(saved)) {
    if (policy === undefined || policy === saved) return;
    throw new UsageError(`--resume keeps the policy of its run, ${saved}: got --policy "${policy}"`);
  }
  if (policy === undefined) {
    throw new InputError(
      `Cannot resume "${folder}" as what a checkpoint names is never run, and its policy is a module, ` +
        `"${saved.slice(0, 200)}": look at that file and name it again with --policy FILE`,
    );
  }
  checkPolicyName(policy);
  if (policyHash !== null && isModule(policy)) return;
  throw new InputError(
    `Cannot resume "${folder}" as its policy is a module, ${
      policyHash === null ? "and it keeps no hash of it" : `not "${policy}"`
    }: ${policyHash === null ? "start another run" : "name that file with --policy FILE"}`,
  );
}
