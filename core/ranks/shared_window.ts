/**
 * Memory that the ranks of one host share, and lanes that carry data through it.
 *
 * The window is small, whatever is carried: containers often have 64 MB for all that processes share, and one that runs out of it is
 * killed. All ranks of all hosts get it, or none does.
 *
 * @module
 */

import { type LaneJob, startLanes } from "../host/lanes.ts";
import type { Mpi, WindowCalls } from "../host/load_mpi.ts";
import type { Group } from "./survival.ts";

/** Bytes of the window of a host, where nothing else is said. */
const BYTES = 2 ** 25;
/** Where libraries of MPI put what processes share. They wait for ever or crash where it is full: half of what is free stays so. */
const PLACE = "/dev/shm", FREE_SHARE = 0.5;
/** Bytes that processors write at a time, and those of a barrier. */
const LINE = 64;
/** Bytes of a page, on all machines. */
const PAGE = 2 ** 16;
/** Lanes of a rank at most: beside two H200, 11 and 14 are as fast as each other, and faster than 8. */
const LANES = 12;
/** Bytes for which a lane is asked to work. */
const LANE_BYTES = 2 ** 19;
/** Bytes that a lane moves to one rank at a time, at least. */
const LEAST_PIECE = 2 ** 12;
/** Asks the system for the memory of some pages now (Linux 5.14): where there is none, it says so. */
const POPULATE_WRITE = 23;

/** Ranks that share a window on each host. */
export interface SharedWindow {
  /**
   * Carries data through it, in the same order on all ranks.
   *
   * Who stops waiting for it, as a rank has not come in time, must end the process: the lanes wait on, and nothing else can be
   * carried. An error that nobody catches ends it at once, as does an exit.
   *
   * @param what The call, for people
   * @param job What its lanes do
   * @throws {RanksError} When one cannot
   */
  run(what: string, job: LaneJob): Promise<void>;
  /** The ranks of this host. */
  readonly local: Group;
  /** Ranks of the same local number on all hosts; null where there is one host. */
  readonly across: bigint | null;
  /** Address of some values. */
  address(data: Uint8Array): number;
  /** Frees it, on all ranks. */
  close(): Promise<void>;
}

/** What {@link openWindow} needs. */
export interface WindowOptions {
  readonly all: Group;
  /** The ranks of this host. */
  readonly local: Group;
  /** Refuses a code of MPI that is no success. */
  readonly check: (what: string, code: number) => void;
  /** Bytes of the window of a host, however many ranks it has; 32 MiB when absent. */
  readonly bytes?: number;
  /** Lanes of a rank at most; 12 when absent. */
  readonly most?: number;
}

/**
 * Opens the window of a host, on all ranks of all hosts at once.
 *
 * @param mpi The library, which several threads may call at a time
 * @param options The ranks
 * @returns The window; null on all ranks where one cannot have it, or hosts have different numbers of them
 */
export async function openWindow(
  mpi: Mpi,
  { all, local, check, bytes = BYTES, most = LANES }: WindowOptions,
): Promise<SharedWindow | null> {
  const { window } = mpi, agree = (mine: readonly number[]) => gathered(mpi, { all, check, mine });
  const pages = window === null ? 0 : pagesOf(window, { ranks: local.size, bytes });
  const can = await agree([local.size, Math.min(most, laneCount(local.size, pages)), pages]);
  const isEven = can.every(([size, lanes]) => size === local.size && size > 1 && lanes > 0);
  if (window === null || !isEven) return null;
  const [, count, room] = can.reduce((least, one) => least.map((value, i) => Math.min(value, one[i])));
  const handle = new BigUint64Array(1);
  const opened = await shared(mpi, { window, local, bytes: room * PAGE, count, handle });
  const had = await agree([opened === null ? 0 : 1]);
  if (opened === null || had.some(([one]) => one === 0)) return null;
  const split = new BigUint64Array(1), hosts = all.size / local.size;
  if (hosts > 1) {
    check("share memory", await window.MPI_Comm_split(all.handle, local.rank, all.rank, split));
  }
  const { float, sum } = mpi.constants;
  const lanes = await startLanes({ library: mpi.path, rank: local.rank, float, sum, ...opened });
  return {
    local,
    across: hosts > 1 ? split[0] : null,
    address: (data) => addressOf(window, data),
    async run(what, job) {
      const bytes = job.lengths.reduce((all, length) => all + length);
      check(what, await lanes.run(job, Math.min(count, Math.ceil(bytes / LANE_BYTES))));
    },
    async close() {
      lanes.stop();
      check("close", await window.MPI_Win_free(handle));
    },
  };
}

/** Pages that each rank of a host may take. */
function pagesOf(
  window: WindowCalls,
  { ranks, bytes }: { readonly ranks: number; readonly bytes: number },
): number {
  // The structure of a file system: the size of its blocks is the second number, and the blocks that are free the fifth.
  const [, block, , , free] = statusOf(window);
  return Math.floor(Math.min(bytes, FREE_SHARE * Number(block * free)) / ranks / PAGE);
}

/** What the C library says of the place of shared memory; 0 where there is none. */
function statusOf(window: WindowCalls): BigUint64Array {
  const status = new BigUint64Array(32), path = new TextEncoder().encode(`${PLACE}\0`);
  return window.statvfs(path, status) === 0 ? status : status.fill(0n);
}

/** Lanes for which there are processors and room, where others of the host take as many; 0 where there is no room. */
function laneCount(ranks: number, pages: number): number {
  const processors = Math.max(1, Math.floor(navigator.hardwareConcurrency / ranks));
  return Math.min(processors, Math.floor(pages * PAGE / (3 * ranks * LEAST_PIECE)));
}

/** Numbers of all ranks. */
async function gathered(
  { call, constants: { byte } }: Mpi,
  { all, check, mine }: Pick<WindowOptions, "all" | "check"> & { readonly mine: readonly number[] },
): Promise<number[][]> {
  const own = Int32Array.from(mine), numbers = new Int32Array(all.size * own.length), bytes = 4 * own.length;
  check("share memory", await call.MPI_Allgather(own, bytes, byte, numbers, bytes, byte, all.handle));
  return Array.from(
    { length: all.size },
    (_, r) => [...numbers.subarray(r * own.length, (r + 1) * own.length)],
  );
}

/** Where things are in a window; null where this rank has none. */
async function shared(
  { constants: { infoNull } }: Mpi,
  { window, local, bytes, count, handle }: {
    readonly window: WindowCalls;
    readonly local: Group;
    /** Bytes of the part of each rank. */
    readonly bytes: number;
    readonly count: number;
    readonly handle: BigUint64Array<ArrayBuffer>;
  },
): Promise<{ segments: number[]; piece: number; barriers: number[] } | null> {
  const { rank, size } = local, barriers = count * LINE;
  const base = new BigUint64Array(1);
  const code = await window.MPI_Win_allocate_shared(
    BigInt(bytes),
    1,
    infoNull,
    local.handle,
    base,
    handle,
  );
  if (code !== 0) return null;
  const begins = Array.from({ length: size }, (_, r) => {
    const at = new BigUint64Array(1);
    const found = window.MPI_Win_shared_query(handle[0], r, new BigUint64Array(1), new Int32Array(1), at);
    return found === 0 ? Math.ceil(Number(at[0]) / LINE) * LINE : 0;
  });
  if (begins.includes(0) || !isThere(window, Number(base[0]), bytes)) return null;
  // Each part begins with barriers, though those of the first are used, and ends where the next line would be cut.
  const piece = Math.floor((bytes - LINE - barriers) / (3 * count * size) / LINE) * LINE;
  const places = Array.from({ length: count }, (_, lane) => begins[0] + lane * LINE);
  if (rank === 0 && !places.every((place) => initBarrier(window, place, size))) return null;
  return { segments: begins.map((begin) => begin + barriers), piece, barriers: places };
}

/** Makes a barrier for one thread of each of some processes. */
function initBarrier(window: WindowCalls, place: number, size: number): boolean {
  const attributes = new Uint8Array(LINE), acrossProcesses = 1;
  return window.pthread_barrierattr_init(attributes) === 0 &&
    window.pthread_barrierattr_setpshared(attributes, acrossProcesses) === 0 &&
    window.pthread_barrier_init(BigInt(place), attributes, size) === 0;
}

/** Whether the system has the memory of a part. A system that cannot tell is believed. */
function isThere(window: WindowCalls, at: number, bytes: number): boolean {
  const populate = (from: number, length: number): boolean => {
    const begin = Math.ceil(from / PAGE) * PAGE, end = Math.floor((from + length) / PAGE) * PAGE;
    return window.madvise(BigInt(begin), BigInt(end - begin), POPULATE_WRITE) === 0;
  };
  const own = new Float32Array(PAGE);
  return populate(at, bytes) || !populate(addressOf(window, own), own.byteLength);
}

/** Address of some values. */
function addressOf(window: WindowCalls, data: Float32Array | Uint8Array): number {
  const values = data as Uint8Array<ArrayBuffer>;
  return Number(window.memcpy(values, values, 0n));
}
