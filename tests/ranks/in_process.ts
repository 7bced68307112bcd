/**
 * Ranks within one process: each call waits until all ranks have made it.
 *
 * @module
 */

import { type Ranks, RanksError } from "@firn/train/ranks";
import { valuesIn } from "../../core/host/mapped_memory.ts";

/**
 * Makes ranks.
 *
 * @param size How many
 * @param options `into`: whether they add up to other memory, too
 * @returns Each of them
 */
export function ranksInProcess(size: number, { into = false }: { readonly into?: boolean } = {}): Ranks[] {
  const meetings: { readonly given: Map<number, unknown>; readonly met: PromiseWithResolvers<unknown[]> }[] =
    [];
  return Array.from({ length: size }, (_, rank) => {
    let calls = 0;
    /** What all ranks gave in the same call. */
    const meet = <T>(mine: T): Promise<T[]> => {
      const meeting = meetings[calls++] ??= { given: new Map(), met: Promise.withResolvers() };
      meeting.given.set(rank, mine);
      if (meeting.given.size === size) {
        meeting.met.resolve(Array.from({ length: size }, (_, r) => meeting.given.get(r)));
      }
      return meeting.met.promise as Promise<T[]>;
    };
    const joined = (parts: readonly Uint8Array[]): Uint8Array =>
      Uint8Array.from(parts.flatMap((part) => [...part]));
    const sum = async (data: Float32Array, sums = data): Promise<void> => {
      const all = await meet(data.slice());
      if (all.some(({ length }) => length !== data.length)) throw new RanksError("lengths differ");
      for (let i = 0; i < data.length; i++) sums[i] = all.reduce((sum, part) => sum + part[i], 0);
    };
    return {
      rank,
      size,
      local: { rank, size },
      engine: "in process",
      sum: (data) => sum(data),
      ...into && { sumMapped: (data, sums) => sum(valuesIn(data), valuesIn(sums)) },
      async allToAll(data) {
        const part = data.length / size, all = await meet(data.slice());
        return joined(all.map((given) => given.subarray(rank * part, (rank + 1) * part)));
      },
      gather: async (mine) => joined(await meet(mine.slice())),
      async broadcast(data, root = 0) {
        data.set((await meet(data.slice()))[root]);
      },
      abort(code): never {
        throw new RanksError(`aborted with ${code}`);
      },
      close: async () => void await meet(null),
    };
  });
}
