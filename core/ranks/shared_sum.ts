/**
 * Sums over ranks where those of one host share memory.
 *
 * The values are cut into a slice for each rank of the host. Each rank adds up its slice over all, in the order of the ranks, so that
 * each sum has the same bits on all of them, and on each repeat. Where there are several hosts, the ranks that have the same slice
 * add it up across them by MPI: each host sends its bytes once, whatever the number of its ranks.
 *
 * @module
 */

import type { LaneJob } from "../host/lanes.ts";
import type { Mpi } from "../host/load_mpi.ts";
import type { SharedWindow } from "./shared_window.ts";

/** Bytes from which shared memory is faster than a message. */
export const LEAST_SHARED = 2 ** 20;
/** Bytes for which a lane is asked to work. */
const LANE_BYTES = 2 ** 19;
/** Bytes that processors write at a time. */
const LINE = 64;

/**
 * Adds up the values of all ranks. It is a call of MPI like others: one at a time, and all ranks make it.
 *
 * @param window The window of each host
 * @param options The library, and what refuses its codes; as many values on each rank; what becomes the sums, which may be the values
 */
export async function sharedSum(
  { lanes, count, local: { rank, size }, across, address }: SharedWindow,
  { mpi: { call, constants: { inPlace, float, sum } }, check, data, sums }: {
    readonly mpi: Mpi;
    readonly check: (what: string, code: number) => void;
    readonly data: Float32Array;
    readonly sums: Float32Array;
  },
): Promise<void> {
  const slice = Math.ceil(data.byteLength / size / LINE) * LINE,
    numbers = Array.from({ length: size }, (_, r) => r);
  const begins = numbers.map((r) => Math.min(r * slice, data.byteLength));
  const lengths = begins.map((begin) => Math.min(slice, data.byteLength - begin));
  const from = address(data), to = address(sums), own = begins[rank];
  const run = async (job: Omit<LaneJob, "lengths">): Promise<void> =>
    check(
      "sum",
      await lanes.run({ lengths, ...job }, Math.min(count, Math.ceil(data.byteLength / LANE_BYTES))),
    );
  const take = (of: (slot: number) => number): LaneJob["takes"] =>
    numbers.map((slot) => ({ of: of(slot), slot, to: to + begins[slot] }));
  // The first of the host has the sums in its part, its own values among them; the others have their own at hand.
  const puts = numbers.filter((slot) => rank === 0 || slot !== rank).map((slot) => ({
    slot,
    from: from + begins[slot],
  }));
  if (across === null) return await run({ puts, sum: { from: from + own }, takes: take(() => 0) });
  await run({ puts, sum: { from: from + own, into: from + own }, takes: [] });
  const part = data.subarray(own / 4, (own + lengths[rank]) / 4);
  check("sum", await call.MPI_Allreduce(inPlace, part, part.length, float, sum, across));
  await run({ puts: [{ slot: rank, from: from + own }], takes: take((slot) => slot) });
}
