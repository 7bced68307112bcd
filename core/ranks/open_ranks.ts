/**
 * Ranks by MPI, the engine that clusters have.
 *
 * @module
 */

import { checkOptions, refuse } from "../arguments.ts";
import { InputError, NotFoundError } from "../errors.ts";
import { hostEnvironment } from "../host/environment.ts";
import { loadMpi, type Mpi } from "../host/load_mpi.ts";
import { type Launched, launchedBy, LAUNCHER_VARIABLES } from "./launched.ts";
import { mpiRanks } from "./mpi_ranks.ts";
import type { AddsGradients } from "../train/parameter_exchange.ts";
import type { Ranks } from "../train/ranks.ts";

/** Options of {@link openRanks}. */
export interface RanksOptions {
  /** Path of the library of MPI; that of the launcher when absent: `FIRN_MPI_LIBRARY`, or where the system has it. */
  readonly library?: string;
  /**
   * Seconds after which a call fails that not all ranks have made; 600 when absent. All later calls fail, too: let the error end
   * the process, which it does at once, whatever still waits for the other ranks.
   */
  readonly timeout?: number;
  /**
   * Whether those that are left go on where a rank dies; false when absent: that ends all. It needs Open MPI 5 and
   * `mpirun --with-ft ulfm`. A call then fails with `RanksLostError` on each rank that is left, see `survival` of the ranks.
   */
  readonly survive?: boolean;
}

/** The variable of the environment that names the library of MPI. `./firn ranks` sets it. */
export const LIBRARY_VARIABLE: string = "FIRN_MPI_LIBRARY";

const MEND = `start it by "./firn ranks 2 finetune", or allow --allow-env=${
  [LIBRARY_VARIABLE, ...LAUNCHER_VARIABLES].join(",")
}`;

/** Names under which the system finds the libraries of a launcher. */
const OPEN_MPI = ["libmpi.so.40", "libmpi.40.dylib"],
  MPICH = ["libmpich.so.12", "libmpi.so.12", "libmpi_abi.so.1", "libmpi.12.dylib"];

function namesOf({ launcher, pmi }: Launched): readonly string[] {
  if (launcher === "Slurm") return pmi ? [...MPICH, ...OPEN_MPI] : [...OPEN_MPI, ...MPICH];
  return launcher === "MPICH" ? MPICH : OPEN_MPI;
}

/**
 * Joins the ranks that an MPI launcher started: `mpirun -n 4 ...`, `srun -n 4 ...`, or `./firn ranks 4 ...`. It may be called
 * once in a process. Calls of the ranks run one after the other, in the order in which they were made, which must be the same on
 * all ranks.
 *
 * @param options The library, and the time to wait for other ranks
 * @returns This rank among the others; close it in the end
 * @throws {InputError} When no launcher started this process, when it started another MPI than that of the library (each process
 * would then train alone), or when Deno may not read the environment or open the library
 * @throws {NotFoundError} When there is no library of MPI
 *
 * @example Adds up a value of each rank; run it as `mpirun -n 4 deno run --allow-ffi --allow-env sum.ts`
 * ```ts ignore
 * import { openRanks } from "@firn/train/ranks";
 *
 * const ranks = await openRanks();
 * const values = Float32Array.of(ranks.rank);
 * await ranks.sum(values);
 * console.log(values[0]); // 6 on each of 4 ranks
 * await ranks.close();
 * ```
 */
export async function openRanks(options: RanksOptions = {}): Promise<Ranks & AddsGradients> {
  checkOptions("openRanks", options, "its argument must be a record of library, timeout and survive");
  const { library, timeout = 600, survive = false } = options;
  if (!(typeof timeout === "number" && timeout > 0 && timeout < 2e6)) {
    refuse("openRanks", '"timeout" must be seconds above 0', timeout);
  }
  const variables = new Map<string, string | undefined>();
  for (const name of [LIBRARY_VARIABLE, ...LAUNCHER_VARIABLES]) {
    variables.set(name, await hostEnvironment(name, MEND));
  }
  const launched = launchedBy((name) => variables.get(name));
  if (launched === null) {
    throw new InputError(
      "Cannot join other ranks as a launcher of MPI must have started this process: none did; run ./firn ranks 2 COMMAND, or mpirun -n 2 ./firn COMMAND",
    );
  }
  const mpi = libraryOf(launched, library ?? variables.get(LIBRARY_VARIABLE));
  const ranks = mpiRanks(mpi, { seconds: timeout, survive });
  if (ranks.size !== launched.size) {
    // Each would be a rank 0 of its own, and all would write to the same files.
    throw new InputError(strangersText(launched, { version: mpi.version, seen: ranks.size }));
  }
  return ranks;
}

/**
 * Why processes that a launcher started do not see each other, and what helps.
 *
 * @param launched What started them
 * @param options The library, and how many processes it sees
 * @returns A message
 */
export function strangersText(
  { launcher, size }: Launched,
  { version, seen }: { readonly version: string; readonly seen: number },
): string {
  const mend = launcher === "Slurm"
    ? `start it by srun --mpi=pmix, or what else of srun --mpi=list that library was built for, by mpirun within the job, or name another library by ${LIBRARY_VARIABLE}`
    : `name it by ${LIBRARY_VARIABLE}, or take the other's mpirun`;
  return `Cannot join other ranks as ${launcher} started ${size} processes, and ${version} sees ${seen}: the library must be that of the launcher; ${mend}`;
}

function libraryOf(launched: Launched, library: string | undefined): Mpi {
  if (library !== undefined) return loadMpi(library);
  const names = namesOf(launched);
  for (const name of names) {
    try {
      return loadMpi(name);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
    }
  }
  throw new NotFoundError(
    `Cannot join other ranks as the library of ${launched.launcher} must be at hand: none of ${
      names.join(", ")
    } is; name it by ${LIBRARY_VARIABLE}`,
  );
}
