/**
 * Calls of MPI, with a library within this process.
 *
 * @module
 */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { InputError, RanksError } from "@firn/train";
import { memoryOf } from "../../core/host/mapped_memory.ts";
import { startLanes } from "../../core/host/lanes.ts";
import { mpiRanks } from "../../core/ranks/mpi_ranks.ts";
import { mortalMpi } from "./mortal_mpi.ts";

Deno.test("bytes that MPI cannot count in 32 bits are refused on all ranks, whichever has them", async () => {
  const all = mortalMpi({ size: 2 }).map((mpi) => mpiRanks(mpi, { seconds: 20 }));
  const some = await Promise.all(
    all.map((ranks) => ranks.gather(new Uint8Array(ranks.rank + 1).fill(ranks.rank))),
  );
  assertEquals(some.map((bytes) => [...bytes]), [[0, 1, 1], [0, 1, 1]]);
  // Only as much of it is taken from the system as is read: nothing.
  const large = new Uint8Array(2 ** 32);
  await Promise.all(
    all.map((ranks) =>
      assertRejects(
        () => ranks.gather(ranks.rank === 0 ? large : new Uint8Array(1)),
        InputError,
        "ranks must have 2147483647 bytes in all at most: got 4294967297",
      )
    ),
  );
  assertThrows(() => all[0].allToAll(large), InputError, "a part must have 2147483647 bytes at most");
});

Deno.test("ranks that get no memory to share add up large data by messages, in other memory, too", async () => {
  let asked = 0;
  const window = {
    statvfs: (_: Uint8Array, status: BigUint64Array) => (status.fill(2n ** 20n), 0),
    MPI_Win_allocate_shared: () => Promise.resolve((asked++, 17)),
  };
  const all = mortalMpi({ size: 2, threads: true })
    .map((mpi) => mpiRanks({ ...mpi, window } as unknown as typeof mpi, { seconds: 20 }));
  const items = 2 ** 18, sums = all.map(() => new Float32Array(items));
  await Promise.all(all.map(async (ranks) => {
    const own = memoryOf(new Float32Array(items).fill(ranks.rank + 1));
    await ranks.sumMapped!(own, memoryOf(sums[ranks.rank]));
    // Messages need all of it.
    assertEquals(ranks.seenBytes!(own.bytes), own.bytes);
    const values = new Float32Array(items).fill(ranks.rank + 2);
    await ranks.sum(values);
    assertEquals([values[0], values.at(-1)], [5, 5]);
  }));
  assertEquals(sums.map((values) => [values[0], values.at(-1)]), [[3, 3], [3, 3]]);
  assertEquals(asked, 2);
});

Deno.test("a thread that cannot start is told, and nobody waits for it", async () => {
  const nothing = { rank: 0, segments: [0, 0], piece: 64, float: 0n, sum: 0n };
  await assertRejects(
    () => startLanes({ library: "/nowhere/libmpi.so", barriers: [0, 64], ...nothing }),
    RanksError,
    "as all of its threads must run: one ended with",
  );
});
