/**
 * What a run would take, found out by the first things that it would do, on a state that is thrown away.
 *
 * @module
 */

import {
  type Cost,
  evaluate,
  flatten,
  freeState,
  type Gpu,
  type Loss,
  type Model,
  read,
  scan,
  sizeOf,
  type StepMemory,
  type TokenBatch,
  type Training,
  type TrainingState,
} from "@firn/train";
import { checkpointKeeper } from "@firn/train/checkpoint";
import { memoryFileSystem } from "@firn/train/data";
import { bytesText, counted, memoryText } from "@firn/train/report";
import { print } from "./print.ts";
import { clock, stage } from "./progress.ts";
import { unwritten } from "./unwritten.ts";

/** Milliseconds of steps that are enough to tell their pace. */
const ENOUGH_MS = 2000;

/** Batches that tell how long an evaluation takes. */
const JUDGED = 4;

/** A run that is asked about. */
export interface AskedRun {
  readonly training: Training<object, TokenBatch>;
  readonly base: Model;
  readonly batches: { from(step: number): Iterable<TokenBatch> | AsyncIterable<TokenBatch> };
  readonly steps: number;
  /** Most steps to take; with more a policy would look at them, and might freeze something. */
  readonly most: number;
  /** The loss of evaluations. */
  readonly loss: Loss<object, TokenBatch>;
  /** One batch of those that the model is judged by, and how many batches are computed before, while and after it trains. */
  readonly held: readonly TokenBatch[];
  readonly judged: number;
  /** Writes a sample; null for none. `samples`: how many are written. */
  readonly sample: (() => Promise<unknown>) | null;
  readonly samples: number;
  /** Steps between checkpoints. */
  readonly checkpoint: number;
  /** Saves what was trained, as if. */
  readonly save: (state: TrainingState<object>, files: ReturnType<typeof unwritten>) => Promise<unknown>;
  /** A number that all ranks of the run share: that of the first. The number itself when absent. */
  readonly common?: (mine: number) => Promise<number>;
  /** Milliseconds that passed before the first step, and those of them in which the model was loaded. */
  readonly setupMs: number;
  readonly loadMs: number;
}

/** What a run takes. */
export interface Estimate {
  /** Bytes on the device while it trains: the model as it was loaded, the state, and all that a step needs. */
  readonly bytes: { readonly model: number; readonly state: number; readonly step: number };
  /** What the kernels of a step do by plan, and how its memory was planned, where it is limited. */
  readonly cost: Cost;
  readonly planned: StepMemory | null;
  readonly stepMs: number;
  /** Milliseconds of the whole run, where nothing freezes. */
  readonly totalMs: number;
  /** Parts of it besides steps. */
  readonly compileMs: number;
  readonly evaluationMs: number;
  readonly savingMs: number;
}

/**
 * Takes a few steps, evaluates a few batches, and makes what would be saved; frees all of it.
 *
 * @param gpu The device
 * @param run The run
 * @returns What the run would take
 */
export async function estimateRun(gpu: Gpu, run: AskedRun): Promise<Estimate> {
  const { steps, judged, samples, setupMs, loadMs } = run;
  return await stage("trying      a few steps", async (say) => {
    // In the order of a run, so that what is kept for reading values back is the same.
    say("evaluation");
    const batchMs = await coldAndWarm((cold) => {
      const batches = cold ? run.held.slice(0, 1) : run.held.slice(0, JUDGED);
      return evaluate(gpu, { loss: run.loss, params: run.base.params, batches });
    });
    const sampleMs = run.sample === null ? { cold: 0, warm: 0 } : await coldAndWarm(run.sample);
    say("training");
    const { firstMs, stepMs, checkpointMs, saveMs, bytes } = await tryOut(gpu, run);
    const cost = run.training.costOf([]), planned = run.training.memory();
    const perBatch = batchMs.warm / Math.min(run.held.length, JUDGED);
    const evaluationMs = judged * perBatch + samples * sampleMs.warm;
    const compileMs = Math.max(0, firstMs - stepMs) + Math.max(0, batchMs.cold - perBatch) +
      Math.max(0, sampleMs.cold - sampleMs.warm);
    const savingMs = (1 + Math.floor((steps - 1) / run.checkpoint)) * checkpointMs + saveMs + loadMs;
    const totalMs = setupMs + compileMs + evaluationMs + savingMs + steps * stepMs;
    return { bytes, cost, planned, stepMs, totalMs, compileMs, evaluationMs, savingMs };
  });
}

/** Takes the first steps: one that compiles, one that tells about how long one takes, then as many as tell it well. */
async function tryOut(
  gpu: Gpu,
  { training, base, batches, most, steps, save, common = (mine) => Promise.resolve(mine) }: AskedRun,
): Promise<{
  readonly bytes: Estimate["bytes"];
  readonly firstMs: number;
  readonly stepMs: number;
  readonly checkpointMs: number;
  readonly saveMs: number;
}> {
  const model = gpu.counts.bytes, files = unwritten(memoryFileSystem());
  let state = await training.init(base.params), left = Math.min(most, steps);
  const stateBytes = gpu.counts.bytes - model;
  await using keeper = checkpointKeeper<object>(gpu, { path: "checkpoint.safetensors", fileSystem: files });
  const checkpointMs = await timed(() => keeper.save(state));
  const states = scan(training, state, batches.from(1));
  /** The milliseconds of one of so many steps. The device is waited for at the end. */
  const take = async (count: number): Promise<number> => {
    left -= count;
    const whole = await timed(async () => {
      for (let i = 0; i < count; i++) state = (await states.next()).value as TrainingState<object>;
      await read(gpu, state.loss!);
    });
    return whole / count;
  };
  const firstMs = await take(1);
  let stepMs = left > 0 ? await take(1) : firstMs;
  const more = await common(Math.min(left, Math.ceil(ENOUGH_MS / stepMs)));
  if (more > 0) stepMs = await take(more);
  const bytes = { model, state: stateBytes, step: gpu.counts.bytes - model - stateBytes };
  const saveMs = await timed(() => save(state, files));
  freeState(state);
  return { bytes, firstMs, stepMs, checkpointMs, saveMs };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

/** How long some work takes the first time, when its kernels are compiled, and then. */
async function coldAndWarm(
  work: (cold: boolean) => Promise<unknown>,
): Promise<{ readonly cold: number; readonly warm: number }> {
  return { cold: await timed(() => work(true)), warm: await timed(() => work(false)) };
}

/** What is printed of a run that was not taken. */
export interface ShownPlan {
  readonly base: Model;
  readonly steps: number;
  readonly accumulate: number;
  readonly batch: number;
  readonly length: number;
  /** Processes that share a step; 1 when absent. */
  readonly ranks?: number;
  /** Tokens of a batch, in the mean, and batches of an epoch, where they are known. */
  readonly tokensPerStep: number;
  readonly epoch: number | null;
  readonly estimate: Estimate;
  /** The file that does the run. */
  readonly toml: string;
}

/** Prints what a run would be and take. */
export function printPlan(plan: ShownPlan): void {
  const { base, steps, accumulate, batch, length, ranks = 1, tokensPerStep, epoch, estimate, toml } = plan;
  const { bytes: { model, state, step }, cost, planned, stepMs, totalMs, compileMs, evaluationMs, savingMs } =
    estimate;
  const leaves = [...flatten(base.params)],
    whole = (n: number): string => Math.round(n).toLocaleString("en-US");
  const count = (list: typeof leaves): string =>
    whole(list.reduce((n, [, { shape }]) => n + sizeOf(shape), 0));
  const trained = leaves.filter(([path]) => base.trainable?.(path) ?? true);
  const batches = steps * accumulate,
    epochs = epoch === null ? "" : `, ${(batches / epoch).toFixed(2)} epochs`;
  print(`parameters  ${count(leaves)}, ${count(trained)} of them trained`);
  print(
    `steps       ${whole(steps)} of ${ranks === 1 ? "" : `${ranks} ranks × `}${
      accumulate === 1 ? "" : `${accumulate} × `
    }${batch} × ${counted(length, "token")}, ` +
      `${whole(batches * tokensPerStep)} tokens${epochs}`,
  );
  print(
    `memory      ${whole(model + state + step)} bytes while it trains: ${bytesText(model)} the model, ` +
      `${bytesText(state)} weights and optimizer, ${bytesText(step)} values of a step and what is read back`,
  );
  // Without a limit a copy of the state is written while the device goes on.
  if (planned === null) {
    print(`            ${bytesText(state)} more on the host while a checkpoint is written`);
  }
  if (planned !== null) print(`planned     ${memoryText(planned)}`);
  if (cost.exchanged !== undefined) {
    print(`exchanged   ${bytesText(cost.exchanged)} a step by each rank, if nothing freezes`);
  }
  print(
    `a step      ${counted(cost.launches, "launch")}, ${(cost.flops / 1e9).toFixed(2)} GFLOP, ${
      bytesText(cost.bytes)
    } read and written`,
  );
  print(
    `time        about ${clock(totalMs)}, if nothing freezes: ${stepMs.toFixed(1)} ms a step, ${
      clock(compileMs)
    } to compile, ${clock(evaluationMs)} to evaluate, ${clock(savingMs)} to save`,
  );
  print(`\n${toml}`);
}
