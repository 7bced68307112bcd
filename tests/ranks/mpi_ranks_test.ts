/**
 * Calls of MPI, with a library within this process.
 *
 * @module
 */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { InputError } from "@firn/train";
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
