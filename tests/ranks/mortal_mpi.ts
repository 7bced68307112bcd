/**
 * A library of MPI within one process, whose ranks die: calls by which the others notice it, agree, and go on (ULFM).
 *
 * @module
 */

import type { Mpi } from "../../core/host/load_mpi.ts";

/** What MPI returns where a rank died, where its group was given up, and where something else failed. */
const DIED = 75, REVOKED = 77, FAILED = 13;

/** A call of one rank, from 1 on. */
interface Moment {
  readonly rank: number;
  readonly call: number;
}

/** Ranks of one communicator, by the numbers that they had at first. */
interface Communicator {
  readonly members: readonly number[];
  revoked: boolean;
  /** Collective calls that wait for others, by kind. */
  readonly meetings: Map<string, { readonly given: Map<number, unknown>; readonly wake: (() => void)[] }>;
  readonly made: Map<number, number>;
}

/** What all ranks share. */
interface World {
  readonly communicators: Communicator[];
  readonly dead: Set<number>;
  /** Wakes all that wait, so that they look again. */
  readonly waiting: Set<() => void>;
  /** Messages from one rank to another, with their tags. */
  readonly told: Set<string>;
}

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);

/**
 * Makes the libraries of some ranks.
 *
 * @param options How many; which dies in which of its calls that carry data, or fails there otherwise
 * @returns The library of each
 */
export function mortalMpi({ size, dies, fails, threads = false }: {
  readonly size: number;
  readonly dies?: Moment;
  readonly fails?: Moment;
  /** Whether ranks can tell each other that they wait. */
  readonly threads?: boolean;
}): Mpi[] {
  const members = Array.from({ length: size }, (_, rank) => rank);
  const world: World = {
    communicators: [communicator(members)],
    dead: new Set(),
    waiting: new Set(),
    told: new Set(),
  };
  return members.map((rank) => libraryOf(rank, { world, dies, fails, threads }));
}

function communicator(members: readonly number[]): Communicator {
  return { members, revoked: false, meetings: new Map(), made: new Map() };
}

function libraryOf(
  rank: number,
  { world, dies, fails, threads }: {
    readonly world: World;
    readonly dies?: Moment;
    readonly fails?: Moment;
    readonly threads: boolean;
  },
): Mpi {
  const of = (handle: bigint): Communicator => world.communicators[Number(handle)];
  const wake = (): void => world.waiting.forEach((look) => look());
  const counts = new Map<string, number>();
  let calls = 0;
  /** What all living members gave; null where one is dead, or the group was given up, and that counts. */
  const meet = async (
    handle: bigint,
    { kind, mine, mortal }: { readonly kind: string; readonly mine: unknown; readonly mortal: boolean },
  ): Promise<Map<number, unknown> | number> => {
    const { members, meetings } = of(handle), key = `${handle} ${kind}`, number = counts.get(key) ?? 0;
    counts.set(key, number + 1);
    const name = `${kind} ${number}`, meeting = meetings.get(name) ?? { given: new Map(), wake: [] };
    meetings.set(name, meeting);
    meeting.given.set(rank, mine);
    wake();
    for (;;) {
      if (mortal && of(handle).revoked) return REVOKED;
      const missing = members.filter((member) => !meeting.given.has(member));
      if (mortal && missing.some((member) => world.dead.has(member))) return DIED;
      if (missing.every((member) => world.dead.has(member))) return meeting.given;
      await new Promise<void>((resolve) => {
        const look = (): void => {
          world.waiting.delete(look);
          resolve();
        };
        world.waiting.add(look);
      });
    }
  };
  const carried = async (handle: bigint, kind: string, mine: unknown) => {
    calls++;
    if (fails?.rank === rank && fails.call === calls) return FAILED;
    if (dies?.rank === rank && dies.call === calls) {
      world.dead.add(rank);
      wake();
    }
    if (world.dead.has(rank)) return DIED;
    return await meet(handle, { kind, mine, mortal: true });
  };
  const collect = async (
    handle: bigint,
    kind: string,
    { mine, into }: { mine: Uint8Array; into: Uint8Array },
  ) => {
    const met = await carried(handle, kind, mine.slice());
    if (typeof met === "number") return met;
    let at = 0;
    for (const member of of(handle).members) {
      const part = met.get(member) as Uint8Array;
      into.set(part, at);
      at += part.length;
    }
    return 0;
  };
  const put = (into: Int32Array, value: number): number => (into[0] = value, 0);
  const call = {
    MPI_Initialized: (into: Int32Array) => put(into, 0),
    MPI_Init_thread: (_: bigint, __: bigint, ___: number, level: Int32Array) => put(level, threads ? 3 : 2),
    MPI_Comm_dup: (handle: bigint, made: BigUint64Array) => {
      made[0] = handle;
      return 0;
    },
    MPI_Isend: (...[, , , to, tag]: readonly unknown[]) => {
      world.told.add(`${rank} to ${to}: ${tag}`);
      return 0;
    },
    MPI_Iprobe: (from: number, tag: number, _: bigint, flag: Int32Array) =>
      put(flag, Number(world.told.has(`${from} to ${rank}: ${tag}`))),
    MPI_Comm_set_errhandler: () => 0,
    MPI_Abort: () => 0,
    MPI_Comm_rank: (handle: bigint, into: Int32Array) => put(into, of(handle).members.indexOf(rank)),
    MPI_Comm_size: (handle: bigint, into: Int32Array) => put(into, of(handle).members.length),
    MPI_Comm_split_type: (handle: bigint, _: number, __: number, ___: bigint, made: BigUint64Array) => {
      made[0] = handle;
      return 0;
    },
    MPI_Error_string: (code: number, text: Uint8Array, length: Int32Array) =>
      put(length, new TextEncoder().encodeInto(`code ${code}`, text).written),
    async MPI_Allreduce(_: bigint, data: Float32Array, ...rest: readonly unknown[]) {
      const handle = rest[3] as bigint, met = await carried(handle, "sum", data.slice());
      if (typeof met === "number") return met;
      const parts = of(handle).members.map((member) => met.get(member) as Float32Array);
      for (let i = 0; i < data.length; i++) data[i] = parts.reduce((sum, part) => sum + part[i], 0);
      return 0;
    },
    MPI_Allgather: (...all: readonly unknown[]) =>
      collect(all[6] as bigint, "gather", {
        mine: bytesOf(all[0] as Int32Array),
        into: bytesOf(all[3] as Int32Array),
      }),
    MPI_Allgatherv: (...all: readonly unknown[]) =>
      collect(all[7] as bigint, "gather", { mine: all[0] as Uint8Array, into: all[3] as Uint8Array }),
  };
  const survival = {
    MPIX_Comm_revoke(handle: bigint) {
      of(handle).revoked = true;
      wake();
      return Promise.resolve(0);
    },
    async MPIX_Comm_agree(handle: bigint, flag: Int32Array) {
      if (world.dead.has(rank)) return DIED;
      const met = await meet(handle, { kind: "agree", mine: flag[0], mortal: false });
      flag[0] = [...(met as Map<number, number>).values()].reduce((all, one) => all & one);
      return [...of(handle).members].some((member) => world.dead.has(member)) ? DIED : 0;
    },
    async MPIX_Comm_shrink(handle: bigint, made: BigUint64Array) {
      if (world.dead.has(rank)) return DIED;
      await meet(handle, { kind: "shrink", mine: null, mortal: false });
      const old = of(handle), left = old.members.filter((member) => !world.dead.has(member));
      const number = old.made.get(0) ?? world.communicators.push(communicator(left)) - 1;
      old.made.set(0, number);
      made[0] = BigInt(number);
      return 0;
    },
  };
  const constants = { threadSerialized: 2, threadMultiple: 3, world: 0n };
  return { version: "fake MPI", call, constants, survival, window: null } as unknown as Mpi;
}
