/**
 * Which launcher started this process, by its environment.
 *
 * @module
 */

/** A launcher that started this process. */
export interface Launched {
  /** What it is called. */
  readonly launcher: "Open MPI" | "MPICH" | "Slurm";
  /** Processes that it started for this run. */
  readonly size: number;
  /** The number of this one. */
  readonly rank: number;
  /** Whether it was started by Slurm as MPICH's launcher would, `srun --mpi=pmi2`, which libraries of several families understand. */
  readonly pmi?: true;
}

/** Variables that launchers set: the number of processes, and that of this one. */
const MARKS: readonly (readonly [Launched["launcher"], size: string, rank: string])[] = [
  ["Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"],
  ["MPICH", "PMI_SIZE", "PMI_RANK"],
  // A batch script has SLURM_NTASKS too; only what srun starts is a task of a step.
  ["Slurm", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"],
];

/** Names of the variables that {@link launchedBy} reads. */
export const LAUNCHER_VARIABLES: readonly string[] = MARKS.flatMap(([, size, rank]) => [size, rank]);

/**
 * Tells which launcher started this process.
 *
 * @param get Looks up a variable of the environment
 * @returns The launcher; null when none did
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { launchedBy } from "@firn/train/ranks";
 *
 * const environment: Record<string, string> = { PMI_SIZE: "4", PMI_RANK: "1" };
 * assertEquals(launchedBy((name) => environment[name]), { launcher: "MPICH", size: 4, rank: 1 });
 * ```
 */
export function launchedBy(get: (name: string) => string | undefined): Launched | null {
  const [found, ...others] = MARKS.flatMap(([launcher, size, rank]): Launched[] => {
    const numbers = [get(size), get(rank)].map((text) => /^\d{1,7}$/.test(text ?? "") ? Number(text) : null);
    const [all, mine] = numbers;
    return all !== null && mine !== null && all > 0 && mine < all
      ? [{ launcher, size: all, rank: mine }]
      : [];
  });
  if (found === undefined) return null;
  // MPICH's own launcher starts one process of it a node through Slurm, and more from there.
  const slurm = others.find(({ launcher, size, rank }) =>
    launcher === "Slurm" && size === found.size && rank === found.rank
  );
  return found.launcher === "MPICH" && slurm !== undefined ? { ...slurm, pmi: true } : found;
}
