/**
 * Threads that move bytes between memory of this process and a window that it shares with others of its host, and add them up there.
 *
 * Each thread is a lane: it works on its own part of the bytes, and waits for the same lane of the other processes only, at a barrier
 * of the C library, which lies in the window. So the thread that trains is asked once for any number of bytes, and may be busy
 * meanwhile. A lane calls functions of the library of MPI and of the C library, on which that depends, and needs no other permission.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { RanksError } from "../errors.ts";

/** Functions that a lane calls; the addresses are numbers. */
const FUNCTIONS = {
  memcpy: { parameters: ["usize", "usize", "usize"], result: "void" },
  pthread_barrier_wait: { parameters: ["usize"], result: "i32" },
  MPI_Reduce_local: { parameters: ["usize", "usize", "i32", "usize", "usize"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** The window as a process sees it, and what a lane must know. */
export interface LaneWindow {
  /** Path of the library of MPI. */
  readonly library: string;
  /** Number of this process among those of the window. */
  readonly rank: number;
  /** Addresses of the parts of all processes. */
  readonly segments: readonly number[];
  /** Bytes of a slot at a time. In each part, a lane has three thirds, with a slot for each process. */
  readonly piece: number;
  /** Addresses of the barriers, one for each lane. */
  readonly barriers: readonly number[];
  /** The type `MPI_FLOAT` and the operation `MPI_SUM`. */
  readonly float: bigint;
  readonly sum: bigint;
}

/**
 * What lanes do, piece by piece: put bytes into the window, add up one slot over all processes, and take bytes out. All processes
 * give the same `lengths`; all add up or none, and where they do all take or none. Addresses are numbers.
 */
export interface LaneJob {
  /** Bytes of each slot. */
  readonly lengths: readonly number[];
  /** What goes into this process's part, and into which slot. */
  readonly puts: readonly { readonly slot: number; readonly from: number }[];
  /**
   * Adds up the slot of this process's number over all, in the order of their numbers, in the part of process `of`, another one: each
   * process adds one slot up. `from` has its own values, which it does not put, and `into` gets the sums; both are of whole slots.
   */
  readonly sum?: { readonly of: number; readonly from: number; readonly into?: number };
  /** What is copied out: a slot of a process's part. */
  readonly takes: readonly { readonly of: number; readonly slot: number; readonly to: number }[];
}

/** Some lanes. */
export interface Lanes {
  /**
   * Does a job, on all lanes or the first few, which must be as many on all processes. Jobs that are given meanwhile follow.
   *
   * @param job The job; what its addresses point to must live until it ends
   * @param lanes How many lanes do it
   * @returns The first code that is no success, of MPI or of the C library; 0 where there is none
   * @throws {RanksError} When a thread has ended
   */
  run(job: LaneJob, lanes: number): Promise<number>;
  /** Ends the threads. */
  stop(): void;
}

/**
 * Starts lanes. They do not keep the process alive: one that waits at a barrier for another process takes no time of a processor,
 * and ends with this process.
 *
 * @param window The window, with a barrier for each lane
 * @returns The lanes, which all run
 * @throws {RanksError} When one cannot start: others would wait for it at its barrier
 */
export async function startLanes(window: LaneWindow): Promise<Lanes> {
  const { Worker } = await import("node:worker_threads");
  // A program in a text needs no permission to read a file, and is there in a bundle, too.
  const program =
    `const { parentPort, workerData } = require("node:worker_threads");(${lane})(parentPort, workerData)`;
  const { length: count } = window.barriers;
  let failure: RanksError | null = null;
  const workers = window.barriers.map((_, number) => {
    const worker = new Worker(program, { eval: true, workerData: { window, number, functions: FUNCTIONS } });
    const ready = Promise.withResolvers<number>(), waiting = [ready];
    worker.on("message", (code: number) => waiting.shift()!.resolve(code));
    worker.on("error", ({ message }: Error) => {
      failure ??= new RanksError(
        `Cannot share memory with ranks as all of its threads must run: one ended with "${message}"; let this process have ${
          counted(count, "thread")
        }, or see what helps against that`,
      );
      for (const { reject } of waiting.splice(0)) reject(failure);
    });
    return { worker, waiting, ready: ready.promise };
  });
  const stop = (): void => workers.forEach(({ worker }) => void worker.terminate());
  try {
    await Promise.all(workers.map(({ ready }) => ready));
  } catch (error) {
    stop();
    throw error;
  }
  for (const { worker } of workers) worker.unref();
  return {
    async run(job, lanes) {
      if (failure !== null) throw failure;
      const codes = await Promise.all(
        workers.slice(0, lanes).map(({ worker, waiting }) => {
          const answer = Promise.withResolvers<number>();
          waiting.push(answer);
          worker.postMessage({ job, lanes });
          return answer.promise;
        }),
      );
      return codes.find((code) => code !== 0) ?? 0;
    },
    stop,
  };
}

/** Where a lane hears what to do. */
interface Port {
  on(event: "message", heard: (message: { readonly job: LaneJob; readonly lanes: number }) => void): void;
  postMessage(code: number): void;
}

/** The program of a lane. It is a text to its thread: it may use nothing that it does not declare. */
function lane(
  port: Port,
  { window, number, functions }: {
    readonly window: LaneWindow;
    readonly number: number;
    readonly functions: typeof FUNCTIONS;
  },
): void {
  const { rank, segments, piece, barriers, float, sum: add } = window, size = segments.length, line = 64;
  const { symbols: call } = Deno.dlopen(window.library, functions);
  const copy = (to: number, from: number, bytes: number): void =>
    call.memcpy(BigInt(to), BigInt(from), BigInt(bytes));
  const third = size * piece;
  let round = 0, code = 0;
  /** Waits for the others; one of them is told so by a number below 0. */
  const meet = (): void => {
    // Also after a failure: the others wait.
    const met = call.pthread_barrier_wait(BigInt(barriers[number]));
    code ||= Math.max(0, met);
  };
  const work = ({ lengths, puts, sum, takes }: LaneJob, lanes: number): void => {
    const longest = Math.max(...lengths), share = Math.ceil(longest / lanes / line) * line;
    const begin = number * share, end = Math.min(longest, begin + share);
    const pieces = Math.max(0, Math.ceil((end - begin) / piece)), first = round;
    const at = (k: number): number => begin + k * piece;
    const place = (of: number, slot: number, k: number): number =>
      segments[of] + (3 * number + (first + k) % 3) * third + slot * piece;
    const bytes = (slot: number, k: number): number =>
      Math.max(0, Math.min(piece, end - at(k), lengths[slot] - at(k)));
    const put = (k: number): void => {
      for (const { slot, from } of puts) copy(place(rank, slot, k), from + at(k), bytes(slot, k));
    };
    const addUp = ({ of, from, into }: NonNullable<LaneJob["sum"]>, k: number): void => {
      const sums = place(of, rank, k), count = bytes(rank, k) / 4;
      for (let r = 0; r < size; r++) {
        if (r === of) continue;
        const values = r === rank ? from + at(k) : place(r, rank, k);
        code ||= call.MPI_Reduce_local(BigInt(values), BigInt(sums), count, float, add);
      }
      if (into !== undefined) copy(into + at(k), sums, bytes(rank, k));
    };
    const take = (k: number): void => {
      for (const { of, slot, to } of takes) copy(to + at(k), place(of, slot, k), bytes(slot, k));
    };
    // All meet once for each piece: while one is put, the one before is added up, and the one before that is taken.
    const late = sum !== undefined && takes.length > 0 ? 2 : 1, last = pieces - 1 + late;
    const has = (k: number): boolean => k >= 0 && k < pieces;
    for (let k = 0; pieces > 0 && k <= last; k++) {
      if (has(k)) put(k);
      if (sum !== undefined && has(k - 1)) addUp(sum, k - 1);
      if (has(k - late)) take(k - late);
      // The next job writes to the third of the last piece after two more meetings.
      if (k < last) meet();
    }
    round += pieces;
  };
  // It runs.
  port.postMessage(0);
  port.on("message", ({ job, lanes }) => {
    code = 0;
    work(job, lanes);
    port.postMessage(code);
  });
}
