/**
 * Ranks that go on without one that died, by User-Level Failure Mitigation (ULFM), which Open MPI 5 has.
 *
 * @module
 */

import { InputError, RanksError } from "../errors.ts";
import type { Mpi } from "../host/load_mpi.ts";

/** Ranks died; those that are left can go on, each with the same call. */
export class RanksLostError extends RanksError {
  /** Name of the class, kept when code is minified. */
  override name = "RanksLostError";
}

/** A communicator, and what is known about it. */
export interface Group {
  readonly handle: bigint;
  readonly rank: number;
  readonly size: number;
}

/** Brings calls to the same end on all ranks. */
export interface Survivor {
  /** The ranks that are left. */
  readonly group: Group;
  /** Ranks that died, by the numbers that they had at first. */
  readonly lost: readonly number[];
  /**
   * Makes a call. Where it failed on any rank, it fails on all, and those that live are a new group.
   *
   * @throws {RanksLostError} When a rank died
   */
  settle<T>(what: string, work: () => Promise<T>): Promise<T>;
}

/** What {@link survivorOf} needs. */
export interface SurvivorOptions {
  /** All ranks at first. */
  readonly group: Group;
  /** Describes a communicator. */
  readonly groupOf: (handle: bigint) => Group;
  /** Refuses a code of MPI that is no success. */
  readonly check: (what: string, code: number) => void;
}

/**
 * Prepares for the death of ranks.
 *
 * @param mpi The library
 * @param options The ranks
 * @returns What makes calls
 * @throws {InputError} When the library has no ULFM
 */
export function survivorOf(mpi: Mpi, { group: all, groupOf, check }: SurvivorOptions): Survivor {
  const { survival, version, call, constants: { byte, errorsReturn } } = mpi;
  if (survival === null) {
    throw new InputError(
      `Cannot go on where ranks die as the library must have MPIX_Comm_shrink: ${version} has not; take Open MPI 5, or drop "survive"`,
    );
  }
  let group = all, numbers = Array.from({ length: all.size }, (_, rank) => rank);
  const lost: number[] = [];
  const shrink = async (): Promise<void> => {
    const made = new BigUint64Array(1);
    check("go on", await survival.MPIX_Comm_shrink(group.handle, made));
    check("go on", call.MPI_Comm_set_errhandler(made[0], errorsReturn));
    const own = Int32Array.of(numbers[group.rank]), left = groupOf(made[0]), all = new Int32Array(left.size);
    check("go on", await call.MPI_Allgather(own, 4, byte, all, 4, byte, left.handle));
    lost.push(...numbers.filter((number) => !all.includes(number)));
    [group, numbers] = [left, [...all]];
  };
  return {
    get group() {
      return group;
    },
    lost,
    async settle(what, work) {
      const [outcome] = await Promise.allSettled([work()]), { size, handle } = group;
      // Others may wait for what this one gave up.
      if (outcome.status === "rejected") await survival.MPIX_Comm_revoke(handle);
      const flag = Int32Array.of(outcome.status === "fulfilled" ? 1 : 0);
      // It tells that a rank died, too; what counts is that all get the same flag.
      await survival.MPIX_Comm_agree(handle, flag);
      if (flag[0] !== 0 && outcome.status === "fulfilled") return outcome.value;
      const known = lost.length;
      await shrink();
      if (group.size === size) {
        throw outcome.status === "rejected"
          ? outcome.reason
          : new RanksError(`Cannot ${what} across ranks as it failed on another: see what that one printed`);
      }
      throw new RanksLostError(
        `Cannot ${what} across ${size} ranks as rank ${
          lost.slice(known).join(", ")
        } died: ${group.size} are left; go on from the last checkpoint`,
      );
    },
  };
}
