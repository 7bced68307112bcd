/**
 * Ranks whose calls go through a library of MPI.
 *
 * @module
 */

import { refuse } from "../arguments.ts";
import { RanksError } from "../errors.ts";
import { type MappedMemory, memoryOf, valuesIn } from "../host/mapped_memory.ts";
import type { Mpi } from "../host/load_mpi.ts";
import type { AddsGradients } from "../train/parameter_exchange.ts";
import { gradientExchange } from "../train/step/exchange.ts";
import type { Ranks } from "../train/ranks.ts";
import { LEAST_SHARED, sharedAllToAll, sharedBroadcast, sharedGather, sharedSum } from "./shared_calls.ts";
import { openWindow, type SharedWindow } from "./shared_window.ts";
import { type Group, RanksLostError, type Survivor, survivorOf } from "./survival.ts";

/** Elements of one call of those that are cut: MPI counts in 32 bits. */
const MOST = 2 ** 28;
/** Bytes of a call that is not cut. */
const MOST_BYTES = 2 ** 31 - 1;
/** Bytes of memory that tell its address. */
const SEEN = 8;
/** Tags of messages that tell which call a rank waits in. */
const TAGS = 30_000;

/**
 * Initialises MPI.
 *
 * @param mpi The library
 * @param options `seconds`: how long a call waits for other ranks; `survive`: whether those that are left go on where one dies
 * @returns The ranks
 * @throws {RanksError} When MPI refuses
 * @throws {InputError} When the library has nothing to survive with
 */
export function mpiRanks(
  mpi: Mpi,
  { seconds, survive = false }: { readonly seconds: number; readonly survive?: boolean },
): Ranks & AddsGradients {
  const { call, constants, version } = mpi, { world } = constants, level = new Int32Array(1);
  call.MPI_Initialized(level);
  if (level[0] !== 0) throw new RanksError("Cannot start MPI as a process can do it once: it runs already");
  check(mpi, "start", call.MPI_Init_thread(0n, 0n, constants.threadMultiple, level));
  if (level[0] < constants.threadSerialized) {
    throw new RanksError(
      `Cannot start MPI as calls come from several threads, one after the other: ${version} allows one thread; take another build of it`,
    );
  }
  check(mpi, "start", call.MPI_Comm_set_errhandler(world, constants.errorsReturn));
  const all = groupOf(mpi, world), local = groupOf(mpi, localOf(mpi, all.rank));
  const watch = level[0] >= constants.threadMultiple ? watchOf(mpi, all) : null;
  const describe = (handle: bigint): Group => groupOf(mpi, handle);
  const survivor = survive
    ? survivorOf(mpi, { group: all, groupOf: describe, check: (what, code) => check(mpi, what, code) })
    : null;
  const group = survivor ?? { group: all },
    queue = callQueue({ seconds, all, watch, survivor }),
    { next } = queue;
  // Lanes call MPI at a time, and a window outlives no rank.
  const shared = watch !== null && !survive && local.size > 1
    ? lazyWindow(() => openWindow(mpi, { all, local, check: (what, code) => check(mpi, what, code) }))
    : null;
  let closed = false;
  const abort = (code: number): never => {
    call.MPI_Abort(world, code);
    throw new RanksError("Cannot end the other ranks as MPI returned from MPI_Abort: end them by hand");
  };
  // A process that ends without a word would leave the others waiting.
  globalThis.addEventListener?.("unload", () => {
    if (!closed) call.MPI_Abort(world, 1);
  });
  return {
    get rank() {
      return group.group.rank;
    },
    get size() {
      return group.group.size;
    },
    local: { rank: local.rank, size: local.size },
    engine: version,
    ...exchangeOf(mpi, { group, next, shared }),
    ...sumsOf(mpi, { group, next, shared }),
    gradients: gradientExchange,
    ...survivor !== null && { survival: { lost: survivor.lost, goOn: queue.goOn } },
    abort,
    async close() {
      if (closed) return;
      const barrier = async () => check(mpi, "close", await call.MPI_Barrier(group.group.handle));
      for (let together = false; !together;) {
        together = await next("close", barrier).then(() => true, (error) => {
          if (!(error instanceof RanksLostError)) throw error;
          queue.goOn();
          return false;
        });
      }
      await shared?.close();
      closed = true;
      check(mpi, "close", call.MPI_Finalize());
    },
  };
}

/** Makes a call of MPI once those before it have ended. */
type Next = <T>(
  what: string,
  work: () => Promise<T>,
  options?: {
    /** Whether it may begin before those that overlap, too, have ended: it then begins within the call of `work`, and calls no MPI. */
    readonly overlaps?: boolean;
  },
) => Promise<T>;

/** Runs calls one after the other: two at once give wrong sums on MPICH. After a failed one, all fail until ranks go on. */
function callQueue(
  { seconds, all, watch, survivor }: Pick<Waiting, "seconds" | "all" | "watch"> & {
    readonly survivor: Survivor | null;
  },
): { readonly next: Next; readonly goOn: () => void } {
  let ended: Promise<unknown> = Promise.resolve(), turn = ended, calls = 0, broken: unknown = null, epoch = 0;
  const next: Next = (what, work, { overlaps = false } = {}) => {
    const begun = epoch, asked = broken;
    const made = (overlaps ? turn : ended).then(async () => {
      // What was asked for before ranks went on is not what the others do now.
      if (asked !== null || broken !== null || begun !== epoch) throw asked ?? broken ?? stale(what);
      try {
        const call = survivor === null ? work() : survivor.settle(what, work);
        return await within(call, { what, call: calls++, seconds, all, watch });
      } catch (error) {
        broken = error;
        throw error;
      }
    });
    const done = made.catch(() => {});
    // What overlaps begins once all before it have begun, as what waits for the same promise goes on in order.
    if (overlaps) ended = Promise.all([ended, done]);
    else turn = ended = done;
    return made;
  };
  const goOn = (): void => {
    if (!(broken instanceof RanksLostError)) return;
    broken = null;
    epoch++;
  };
  return { next, goOn };
}

function stale(what: string): RanksLostError {
  return new RanksLostError(
    `Cannot ${what} across ranks as those that are left have gone on without it: ask once more`,
  );
}

/** Shared memory of ranks of a host, which is opened when it is needed first. */
interface LazyWindow {
  open(): Promise<SharedWindow | null>;
  /** What was opened; null before. */
  readonly opened: SharedWindow | null;
  /** Frees it where it was opened. */
  close(): Promise<void>;
}

function lazyWindow(open: () => Promise<SharedWindow | null>): LazyWindow {
  let opening: Promise<SharedWindow | null> | null = null, opened: SharedWindow | null = null;
  return {
    get opened() {
      return opened;
    },
    open: () => opening ??= open().then((window) => opened = window),
    close: async () => await (await opening)?.close(),
  };
}

/** What calls need. */
interface Calls {
  /** The ranks that are left. */
  readonly group: { readonly group: Group };
  readonly next: Next;
  /** Null where ranks share nothing. */
  readonly shared: LazyWindow | null;
}

/** Keeps the arguments of calls until they end: nothing else may hold them. */
function holder(): <T>(work: Promise<T>, ...buffers: readonly object[]) => Promise<T> {
  const held = new Set<readonly object[]>();
  return (work, ...buffers) => {
    held.add(buffers);
    return work.finally(() => held.delete(buffers));
  };
}

/** Sums over the ranks: of large data through shared memory where a host has several ranks, of other data by messages. */
function sumsOf(mpi: Mpi, { group, next, shared }: Calls): Pick<Ranks, "sum" | "sumMapped" | "seenBytes"> {
  const { call, constants: { float, inPlace, sum } } = mpi, hold = holder();
  const across = async (values: Float32Array, handle: bigint): Promise<void> => {
    for (let from = 0; from < values.length; from += MOST) {
      const part = values.subarray(from, from + MOST);
      check(mpi, "sum", await hold(call.MPI_Allreduce(inPlace, part, part.length, float, sum, handle), part));
    }
  };
  const add = async (data: MappedMemory, sums: MappedMemory): Promise<void> => {
    const window = data.bytes < LEAST_SHARED ? null : await shared?.open() ?? null;
    if (window !== null) return await hold(sharedSum(window, { data, sums, across }), data, sums);
    const values = valuesIn(data);
    await across(values, group.group.handle);
    if (sums !== data) valuesIn(sums).set(values);
  };
  const together = (data: MappedMemory, sums: MappedMemory): Promise<void> => {
    const window = data.bytes < LEAST_SHARED ? null : shared?.opened ?? null;
    if (window === null || window.across !== null) return next("sum", () => add(data, sums));
    // Lanes do one after the other by themselves, and go on to the next while this thread is busy.
    const work = (): Promise<void> => hold(sharedSum(window, { data, sums, across }), data, sums);
    return next("sum", work, { overlaps: true });
  };
  return {
    sum(values) {
      const data = memoryOf(values);
      return together(data, data);
    },
    ...shared !== null && {
      sumMapped: together,
      // Messages, which also go between hosts, need all of it.
      seenBytes: (bytes) => bytes < LEAST_SHARED || shared.opened?.across !== null ? bytes : SEEN,
    },
  };
}

/** The other calls that carry data: large data goes through shared memory where all ranks are on one host. */
function exchangeOf(
  mpi: Mpi,
  { group, next, shared }: Calls,
): Pick<Ranks, "allToAll" | "gather" | "broadcast"> {
  const { call, constants: { byte } } = mpi, hold = holder();
  const done = async (what: string, code: Promise<number>, ...buffers: readonly object[]): Promise<void> =>
    check(mpi, what, await hold(code, ...buffers));
  const sharing = async (bytes: number): Promise<SharedWindow | null> => {
    const window = bytes < LEAST_SHARED ? null : await shared?.open() ?? null;
    return window?.across === null ? window : null;
  };
  return {
    allToAll(data) {
      const { size } = group.group, part = data.length / size, result = new Uint8Array(data.length);
      if (!Number.isInteger(part)) {
        refuse("allToAll", `bytes must be a multiple of the number of ranks, ${size}`, data.length);
      }
      if (part > MOST_BYTES) refuse("allToAll", `a part must have ${MOST_BYTES} bytes at most`, part);
      return next("allToAll", async () => {
        const window = await sharing(data.length);
        if (window !== null) await hold(sharedAllToAll(window, { data, result }), data, result);
        else {
          const code = call.MPI_Alltoall(data, part, byte, result, part, byte, group.group.handle);
          await done("allToAll", code, data, result);
        }
        return result;
      });
    },
    gather: (mine) =>
      next("gather", async () => {
        const { size, handle } = group.group,
          all = new Float64Array(size),
          own = Float64Array.of(mine.length);
        await done("gather", call.MPI_Allgather(own, 8, byte, all, 8, byte, handle), own, all);
        const bytes = all.reduce((sum, length) => sum + length);
        // All ranks see the same, and none waits for another.
        if (bytes > MOST_BYTES) refuse("gather", `ranks must have ${MOST_BYTES} bytes in all at most`, bytes);
        const lengths = Int32Array.from(all), offsets = new Int32Array(size), result = new Uint8Array(bytes);
        for (let r = 1; r < size; r++) offsets[r] = offsets[r - 1] + lengths[r - 1];
        const window = await sharing(bytes);
        if (window !== null) {
          const places = { lengths: [...lengths], offsets: [...offsets] };
          await hold(sharedGather(window, { mine, result, ...places }), mine, result);
          return result;
        }
        const code = call.MPI_Allgatherv(mine, mine.length, byte, result, lengths, offsets, byte, handle);
        await done("gather", code, mine, result, lengths, offsets);
        return result;
      }),
    broadcast(data, root = 0) {
      if (!(Number.isInteger(root) && root >= 0 && root < group.group.size)) {
        refuse("broadcast", `"root" must be a rank from 0 to ${group.group.size - 1}`, root);
      }
      return next("broadcast", async () => {
        const window = await sharing(data.length);
        if (window !== null) return await hold(sharedBroadcast(window, { data, root }), data);
        for (let from = 0; from < data.length; from += MOST) {
          const part = data.subarray(from, from + MOST);
          const code = call.MPI_Bcast(part, part.length, byte, root, group.group.handle);
          await done("broadcast", code, part);
        }
      });
    },
  };
}

/** @throws {RanksError} When MPI returned an error */
function check({ call }: Mpi, what: string, code: number): void {
  if (code === 0) return;
  const text = new Uint8Array(2048), length = new Int32Array(1);
  call.MPI_Error_string(code, text, length);
  const reason = new TextDecoder().decode(text.subarray(0, length[0]));
  throw new RanksError(
    `Cannot ${what} across ranks as MPI failed: ${reason}; see what the other ranks printed, and go on from the last checkpoint`,
  );
}

function groupOf(mpi: Mpi, handle: bigint): Group {
  const number = new Int32Array(1), { call } = mpi;
  check(mpi, "start", call.MPI_Comm_rank(handle, number));
  const rank = number[0];
  check(mpi, "start", call.MPI_Comm_size(handle, number));
  return { handle, rank, size: number[0] };
}

/** The ranks of this host. */
function localOf(mpi: Mpi, rank: number): bigint {
  const { call, constants: { world, typeShared, infoNull } } = mpi, made = new BigUint64Array(1);
  check(mpi, "start", call.MPI_Comm_split_type(world, typeShared, rank, infoNull, made));
  return made[0];
}

/** Messages between ranks that wait, so that those that do not can be named. */
interface Watch {
  /** Tells all others that this rank waits in a call. */
  tell(call: number): void;
  /** The ranks that did not say that they wait in it. */
  missing(call: number): number[];
}

function watchOf(mpi: Mpi, { rank, size }: Group): Watch {
  const { call, constants: { world, byte, statusIgnore } } = mpi, made = new BigUint64Array(1);
  check(mpi, "start", call.MPI_Comm_dup(world, made));
  const [handle] = made, nothing = new Uint8Array(1), others = Array.from({ length: size }, (_, r) => r);
  others.splice(rank, 1);
  const requests: BigUint64Array<ArrayBuffer>[] = [];
  return {
    tell(number) {
      for (const r of others) {
        const request = new BigUint64Array(1);
        requests.push(request);
        call.MPI_Isend(nothing, 0, byte, r, number % TAGS, handle, request);
      }
    },
    missing: (number) =>
      others.filter((r) => {
        const flag = new Int32Array(1);
        call.MPI_Iprobe(r, number % TAGS, handle, flag, statusIgnore);
        return flag[0] === 0;
      }),
  };
}

/** What a call waits for. */
interface Waiting {
  readonly what: string;
  /** Its number. */
  readonly call: number;
  readonly seconds: number;
  readonly all: Group;
  readonly watch: Watch | null;
}

/** Fails when a call has not ended in time, and names the ranks that did not make it. */
async function within<T>(work: Promise<T>, { what, call, seconds, all, watch }: Waiting): Promise<T> {
  const timers: ReturnType<typeof setTimeout>[] = [];
  const after = (ms: number, then: () => void): void => void timers.push(setTimeout(then, ms));
  const late = new Promise<never>((_, reject) => {
    after(seconds * 500, () => watch?.tell(call));
    after(seconds * 1000, () => {
      const missing = watch?.missing(call) ?? [];
      const who = missing.length === 0 ? "some of the others" : `rank ${missing.join(", rank ")}`;
      reject(
        new RanksError(
          `Cannot ${what} across ${all.size} ranks as all must come within ${seconds} s: rank ${all.rank} waited for ${who}; see why it did not, or give a longer "timeout"`,
        ),
      );
    });
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    for (const timer of timers) clearTimeout(timer);
  }
}
