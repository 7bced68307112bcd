/**
 * Several processes that train one model: ranks.
 *
 * What they exchange decides whether more GPUs are faster. On paper, for steps of 500 ms without an exchange: the time that gradients
 * take in each step, and, where that is more than half of it, which they can hide behind the backward pass, what to choose in their
 * place: parameters on the wire as int8 or f32, every so many steps, and their time for each step, a tenth of it at most. The line
 * is that of a host, whatever the number of its GPUs; it is 20 µs long where nothing else is said:
 *
 * | trained    | GPUs            | 10 Gbit/s                       | 25 Gbit/s                       | 100 Gbit/s                     | 400 Gbit/s                    |
 * | ---------- | --------------- | ------------------------------- | ------------------------------- | ------------------------------ | ----------------------------- |
 * | all of 1 B | 8               | 5,600 ms: int8, every 50, 28 ms | 2,200 ms: f32, every 50, 45 ms  | 560 ms: int8, every 10, 14 ms  | 140 ms                        |
 * | all of 1 B | 64              | 6,300 ms: int8, every 50, 32 ms | 2,500 ms: int8, every 50, 13 ms | 630 ms: int8, every 10, 16 ms  | 160 ms                        |
 * | all of 1 B | 1,024           | 6,400 ms: int8, every 50, 32 ms | 2,600 ms: int8, every 50, 13 ms | 640 ms: int8, every 10, 16 ms  | 160 ms                        |
 * | all of 1 B | 16, 50 ms apart | 6,400 ms: int8, every 50, 38 ms | 2,800 ms: int8, every 50, 20 ms | 1,000 ms: f32, every 50, 20 ms | 550 ms: int8, every 10, 44 ms |
 * | LoRA, 10 M | 8               | 56 ms                           | 23 ms                           | 5.7 ms                         | 1.5 ms                        |
 * | LoRA, 10 M | 64              | 63 ms                           | 25 ms                           | 6.5 ms                         | 1.8 ms                        |
 * | LoRA, 10 M | 1,024           | 64 ms                           | 26 ms                           | 6.8 ms                         | 2 ms                          |
 * | LoRA, 10 M | 16, 50 ms apart | 460 ms: f32, every 10, 46 ms    | 420 ms: f32, every 10, 42 ms    | 410 ms: f32, every 10, 41 ms   | 400 ms: f32, every 10, 40 ms  |
 *
 * So gradients do for a LoRA adapter in one place, and for all of a model from 400 Gbit/s; at 100 Gbit/s parameters every 10 steps as
 * int8, below that every 50. The number of GPUs hardly matters: an all-reduce sends each byte twice, whatever it is. Between two
 * places it is the rounds that take time, not the bytes. What is frozen is exchanged no longer. `exchangeSeconds` and
 * `chooseExchange` compute it for other models and clusters; tests/bench/RESULTS.md has measured times beside it. Over a long line
 * Open MPI announces messages above 64 KiB first, which takes three times as long: `--mca btl_tcp_eager_limit 33554432` and
 * `--mca btl_tcp_rndv_eager_limit 33554432` send them at once.
 *
 * Ranks of one host do not send: they add up in memory that they share, 32 MiB of `/dev/shm` at most and half of what is free there,
 * by as many as twelve threads each, from 1 MiB on. Each adds up its slice in the order of the ranks, so that sums are the same on each
 * repeat. Several hosts with as many ranks each send sums, each rank those of its slice. Where there is no such memory, and with
 * `survive`, MPI sends all values. tests/bench/RESULTS.md has times.
 *
 * On one host: `./firn ranks 8 finetune ...`, or `mpirun -n 8 ./firn finetune ...`. On several with Open MPI or MPICH:
 * `mpirun -n 16 --host a:8,b:8 ./firn finetune ...` from a folder that all hosts share. Under Slurm, one task a GPU:
 *
 * ```sh
 * sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-task=1 --signal=TERM@120 --wrap "srun ./firn finetune --data notes.txt"
 * ```
 *
 * Ranks that exchange gradients have equal weights, bit for bit, at every step. Rank 0 measures which kernel is the fastest for each product of the first
 * shape of batches and of the update, and the others take its choice. Shapes that come later, such as that of a smaller last batch,
 * each rank measures for itself: the gradients that it adds may then be rounded otherwise than another's, but their sum is the same
 * on all.
 *
 * A program of one's own needs `--allow-ffi=/absolute/path/of/libmpi.so.40` and no more, besides `--allow-env` of the variables by
 * which launchers tell a process its number: `LAUNCHER_VARIABLES` and `LIBRARY_VARIABLE`. A rank that fails ends all: it prints why,
 * and MPI ends the others; `./firn ranks` prints the reason of the first one last. Open MPI asks a process to end and kills it a second later; `./firn ranks` gives it two, so that a signal
 * lets rank 0 save a step (`--mca odls_base_sigkill_timeout`, `PRTE_MCA_odls_base_sigkill_timeout` of Open MPI 5).
 *
 * Of 60 kills of a random rank at random moments (`./firn deno run -A tests/ranks/kills.ts`), all processes ended within 4.2 s under
 * Open MPI 4.1, 1.2 s under 5.0 and 0.3 s under MPICH 5.0, and each run went on to the bits of one that nobody killed. With `survive`
 * of `openRanks` and `mpirun --with-ft ulfm` of Open MPI 5, which `./firn ranks N finetune --survive` sets, those that are left take
 * the step that failed once more and share the samples of all; rank 0 must live, as it writes the run.
 *
 * @module
 */

import type { MappedMemory } from "../host/mapped_memory.ts";

/** This process among those that train together. A narrow interface, so that another engine than MPI is one file. */
export interface Ranks {
  /** Number of this process, from 0. */
  readonly rank: number;
  /** How many there are. */
  readonly size: number;
  /** This process among those on its host. */
  readonly local: { readonly rank: number; readonly size: number };
  /** What carries the data, for people. */
  readonly engine: string;
  /**
   * Adds up the values of all ranks, in place. All ranks get the same bits.
   *
   * @param data As many values on each rank; they may lie in memory that the driver of a GPU mapped
   */
  sum(data: Float32Array): Promise<void>;
  /**
   * Adds up the values of all ranks as {@link Ranks.sum} does, to other memory: the sums of a bucket then need no copy on their way back
   * to the device. Both must stay mapped until it has ended. Absent where an engine has no faster way than `sum` and a copy.
   *
   * @param data As many f32 values on each rank; whether they change is not said
   * @param sums As much memory, which becomes the sums and may be slow to read
   */
  readonly sumMapped?: (data: MappedMemory, sums: MappedMemory) => Promise<void>;
  /**
   * How many bytes of its memory {@link Ranks.sumMapped}, with which it comes, must see from now on: where it works at the address, the
   * first few. All when absent.
   *
   * @param bytes Those of the memory
   * @returns `bytes` at most, and a multiple of 4
   */
  readonly seenBytes?: (bytes: number) => number;
  /**
   * Sends a part to each rank, and receives one of each.
   *
   * @param data Parts for all ranks, in their order, of equal size everywhere
   * @returns Parts of all ranks, in their order
   */
  allToAll(data: Uint8Array): Promise<Uint8Array>;
  /**
   * Brings the bytes of all ranks to all ranks.
   *
   * @param mine Bytes of this rank; each may have another number of them
   * @returns Those of all ranks, in their order, one after the other
   */
  gather(mine: Uint8Array): Promise<Uint8Array>;
  /**
   * Copies the bytes of one rank to all others, in place.
   *
   * @param data As many bytes on each rank
   * @param root The rank that has them; 0 when absent
   */
  broadcast(data: Uint8Array, root?: number): Promise<void>;
  /** How those that are left go on where a rank dies; absent where that ends all. */
  readonly survival?: {
    /** Ranks that died, by the numbers that they had at first. `rank` and `size` are of those that are left. */
    readonly lost: readonly number[];
    /**
     * Goes on. Where a rank dies, a call fails with `RanksLostError` on all others, and so do those after it until each has
     * called this: so all are at the same point, and can do what failed once more.
     */
    goOn(): void;
  };
  /**
   * Ends all ranks at once.
   *
   * @param code Exit status, not 0
   */
  abort(code: number): never;
  /** Leaves the others in peace: waits until all ranks have come so far. A second call does nothing. */
  close(): Promise<void>;
}
