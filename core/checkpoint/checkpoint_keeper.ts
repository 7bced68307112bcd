/**
 * Saves checkpoints of a run by steps and by time, and the best one apart.
 *
 * @module
 */

import { checkRange } from "../arguments.ts";
import { openSafetensors } from "../data/safetensors.ts";
import { InputError, NonFiniteError } from "../errors.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import type { Gpu } from "../runtime/device.ts";
import { hostMemory } from "../runtime/host_parts.ts";
import type { Ranks } from "../train/ranks.ts";
import type { Json } from "../policy.ts";
import type { TensorTree } from "../tree.ts";
import { captureCheckpoint } from "./checkpoint.ts";
import { rankPath, withMark } from "./file_names.ts";
import { parseRecord } from "./saved_record.ts";
import type { TrainingState, Validation } from "../train/types.ts";

/** Milliseconds between checkpoints below which the memory of a copy is kept for the next one. */
const KEPT_FOR = 60_000;

/** Options of {@link checkpointKeeper}. */
export interface CheckpointKeeperOptions extends FileSystemOptions {
  /** The file of the newest checkpoint; the one before `run.safetensors` is `run.1.safetensors`. */
  readonly path: string;
  /** Steps between checkpoints; none by steps when absent. */
  readonly every?: number;
  /** Minutes between checkpoints; none by time when absent. */
  readonly minutes?: number;
  /** How many checkpoints stay; 2 when absent. */
  readonly keep?: number;
  /**
   * Whether the state of the lowest validation loss is kept as `run.best.safetensors`; false when absent. It is saved right after
   * the validation. A run that goes on knows its best state from that file; one that begins replaces the file of an earlier run,
   * and so does one of another model or with other validation batches.
   */
  readonly best?: boolean;
  /**
   * Whether the state is copied to memory of the host, and the device goes on while the file is written; true when absent.
   * That memory is kept from one checkpoint to the next where these come within a minute.
   * Without a copy, as where there is no room for one, the device waits until the file is written.
   */
  readonly copy?: boolean;
  /** JSON to keep beside the state, such as the seed. */
  readonly extra?: Json;
  /**
   * The processes that train together; this one alone when absent. Rank 0 saves the state. Where they exchange parameters, each
   * of the others saves what is its own, as `run.rank-1.safetensors`: moments, what its codes left, readings, and between exchanges its
   * parameters. All must save the same steps, so that none is saved by time, and `keep` is at least 2: the newest may not be that of
   * all when they end.
   */
  readonly ranks?: Ranks;
  /** Milliseconds that pass, as `performance.now()` counts them, which is the clock when absent. */
  readonly now?: () => number;
}

/** Saves checkpoints of a run. */
export interface CheckpointKeeper<P extends TensorTree> extends AsyncDisposable {
  /**
   * Looks at a state after each step, and saves it when that is due. It waits until the state is copied to the host: the copy is
   * written while the device goes on, and the next call that saves waits for that. Where the device has no room for a copy, it
   * waits until the file is written. Between looks, a state that is not finite is left out: the next
   * look ends the training there, or goes back.
   *
   * @throws {NonFiniteError} When a parameter or the optimizer's state is not finite at a look; the files stay as they were
   * @throws {FileError} When a file could not be written, by this call or by the one before
   */
  after(state: TrainingState<P>): Promise<void>;
  /** The validation of the best state that is kept; null before the first one, and without `best`. */
  readonly best: Validation | null;
  /** Saves a state, whether it is due or not, and waits until the file is written. */
  save(state: TrainingState<P>): Promise<void>;
  /** Waits until everything is written. Disposing does so, too, and frees the memory of copies. */
  flush(): Promise<void>;
}

/**
 * Makes a keeper of checkpoints.
 *
 * @param gpu The device
 * @param options The file, when to save, and what stays
 * @returns The keeper
 * @throws {InputError} When a number is out of its range
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { adamW, defineTraining, openGpu, scan, sum, type Tensor, tensor } from "@firn/train";
 * import { checkpointKeeper, loadCheckpoint } from "@firn/train/checkpoint";
 * import { memoryFileSystem } from "@firn/train/data";
 *
 * await using gpu = await openGpu();
 * const options = { optimizer: adamW({ learningRate: 0.1 }), steps: 5 };
 * const training = defineTraining(gpu, ({ w }: { w: Tensor }) => sum(w), options), fileSystem = memoryFileSystem();
 * await using keeper = checkpointKeeper<{ w: Tensor }>(gpu, { path: "run.safetensors", every: 2, fileSystem });
 * for await (const state of scan(training, await training.init({ w: tensor([1]) }), Array(5).fill({}))) {
 *   await keeper.after(state);
 * }
 * await keeper.flush();
 * assertEquals((await loadCheckpoint("run.safetensors", { fileSystem })).step, 4);
 * assertEquals((await loadCheckpoint("run.1.safetensors", { fileSystem })).step, 2);
 * ```
 */
export function checkpointKeeper<P extends TensorTree>(
  gpu: Gpu,
  options: CheckpointKeeperOptions,
): CheckpointKeeper<P> {
  const { path, every = Infinity, minutes = Infinity, keep = 2, best = false, copy = true, fileSystem } =
    options;
  const { extra = null, now = () => performance.now(), ranks = null } = options;
  if (every !== Infinity) checkRange("checkpointKeeper", { every }, { least: 1 });
  if (minutes !== Infinity) checkRange("checkpointKeeper", { minutes }, { least: 0 });
  checkKept({ minutes, keep, together: ranks !== null });
  const bestPath = withMark(path, ".best"), rank = ranks?.rank ?? 0, memory = hostMemory(gpu);
  /** What the files of all ranks have in common; null where each saves alone. */
  let run: string | null = null;
  let writing: Promise<void> = Promise.resolve(), savedAt = now();
  /** The first step that was looked at, and the best validation. */
  let first: number | null = null, lowest: Validation | null = null, isKnown = false;
  const flush = async (): Promise<void> => {
    const last = writing;
    writing = Promise.resolve();
    await last;
  };
  /** Waits until the files of all ranks are written. */
  const flushAll = async (): Promise<void> => {
    await flush();
    if (run !== null) await ranks!.gather(Uint8Array.of(0));
  };
  const begin = async (state: TrainingState<P>, target: { readonly path: string; readonly keep: number }) => {
    const isShared = ranks !== null && state.exchanges !== undefined && target.path === path;
    // All have written the one before: there is one of all at any time.
    await (isShared ? flushAll() : flush());
    if (isShared) run ??= await commonName(ranks);
    else if (rank > 0) return;
    const into = copy ? { memory, keeps: now() - savedAt < KEPT_FOR } : null;
    const { apart, write } = await captureCheckpoint(gpu, state, {
      extra,
      copy: into,
      rank,
      run: isShared ? run : null,
    });
    if (target.path === path) savedAt = now();
    writing = write({ ...target, path: rankPath(target.path, rank), fileSystem });
    // It is waited for later: until then its failure is not forgotten, and ends no process.
    writing.catch(() => {});
    if (!apart) await flush();
  };
  const beginDue = async (state: TrainingState<P>): Promise<void> => {
    try {
      await begin(state, { path, keep });
    } catch (error) {
      if (!(error instanceof NonFiniteError && state.look === null)) throw error;
    }
  };
  return {
    async after(state) {
      const { step, done, validation } = state;
      first ??= step;
      if (best && rank === 0 && validation?.step === step) {
        // A run that begins has no state yet that was better.
        if (!isKnown && first > 1) lowest = await keptValidation(bestPath, { state, ...options });
        isKnown = true;
        if (lowest === null || validation.loss < lowest.loss) {
          lowest = validation;
          await begin(state, { path: bestPath, keep: 1 });
        }
      }
      const due = step % every === 0 || now() - savedAt >= 60_000 * minutes;
      if (due && !done) await beginDue(state);
    },
    async save(state) {
      await begin(state, { path, keep });
      await flushAll();
    },
    get best() {
      return lowest;
    },
    flush: flushAll,
    [Symbol.asyncDispose]: () => flush().finally(memory.free),
  };
}

/** A name that no other run of these ranks has. */
async function commonName(ranks: Pick<Ranks, "broadcast">): Promise<string> {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  await ranks.broadcast(bytes);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Refuses a number of files that is none, and what ranks cannot do at the same steps. */
function checkKept(
  { minutes, keep, together }: {
    readonly minutes: number;
    readonly keep: number;
    readonly together: boolean;
  },
): void {
  if (!(Number.isSafeInteger(keep) && keep >= 1)) {
    throw new InputError(`Cannot keep ${keep} checkpoints as "keep" must be a whole number above 0`);
  }
  if (!together) return;
  if (minutes !== Infinity) {
    throw new InputError(
      'Cannot keep checkpoints of several ranks by "minutes" as each has its own clock: give "every"',
    );
  }
  if (keep < 2) {
    throw new InputError(
      'Cannot keep one checkpoint of several ranks as the newest may not be that of all when they end: "keep" must be at least 2',
    );
  }
}

/** What a validation loss depends on: those of runs that differ in it say nothing about each other. */
const COMPARED = ["model", "parameters", "validation", "data"] as const;

/** The validation of the best checkpoint so far; null when there is none, or it is of another run. */
async function keptValidation(
  path: string,
  { state, fileSystem = hostFileSystem() }: FileSystemOptions & {
    readonly state: Pick<TrainingState<TensorTree>, "settings">;
  },
): Promise<Validation | null> {
  if (await fileSystem.stat(path) === null) return null;
  await using file = await openSafetensors(path, { fileSystem });
  const { validation = null, settings } = parseRecord(file.metadata.firn ?? null, path);
  const isOwn = typeof settings !== "string" &&
    COMPARED.every((key) => settings[key] === state.settings[key]);
  return isOwn ? validation : null;
}
