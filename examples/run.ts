/**
 * A run of a training, from its folder to its report: what all commands that train have in common.
 *
 * @module
 */

import { DataError, type Gpu, read, type TensorTree, type Training, type TrainingState } from "@firn/train";
import { type Checkpoint, checkpointKeeper, removeCheckpoint } from "@firn/train/checkpoint";
import { hostFileSystem, lockFolder, memoryFileSystem } from "@firn/train/data";
import { RanksError } from "@firn/train/ranks";
import {
  bytesText,
  change,
  componentsLine,
  counted,
  endingText,
  exchangePace,
  freezeText,
  memoryText,
  openLog,
  type Quality,
  renderReport,
  reportOf,
  type RunLog,
  type StartLine,
  stepLines,
  type Threshold,
} from "@firn/train/report";
import { keepConfig } from "./config.ts";
import { type Averaging, isAveraged } from "./exchange_flags.ts";
import type { RunEvaluations } from "./evaluation_run.ts";
import { claimFolder, lastCheckpoint } from "./output.ts";
import { loggerOf, type ObserveFlags } from "./observe_flags.ts";
import { print } from "./print.ts";
import { clock, frozenText, progress, rateText } from "./progress.ts";
import { quoted } from "./sample.ts";
import { extraOf, type RunRequest, type RunTable } from "./saved_flags.ts";
import { lostRun } from "./lost_run.ts";
import type { Joined } from "./ranks.ts";
import { catchSignals, InterruptedError } from "./signals.ts";
import { survivingSteps } from "./surviving_steps.ts";
import { watchedRun } from "./watched.ts";
import { hasFailed } from "./why_ended.ts";

/** A folder that one run has for itself, and its log. */
export interface Run extends AsyncDisposable {
  readonly folder: string;
  readonly log: RunLog;
  /** What stood before the first step. */
  readonly start: StartLine;
}

/** What {@link openRun} needs. */
export interface RunOptions {
  readonly out: string;
  readonly model?: string;
  readonly checkpoint: Checkpoint | null;
  readonly lookEvery: number;
  readonly config: StartLine["config"];
  readonly observe: ObserveFlags;
  readonly toml: string;
  readonly threshold?: Threshold;
  readonly before: () => Promise<Quality>;
  /** This process among those that train together; rank 0 alone writes. */
  readonly joined?: Joined | null;
}

/**
 * Takes the output folder and begins the log, or goes on with that of an interrupted run.
 *
 * @param gpu The device
 * @param options `out`: the folder; `model`: that of the model, if there is one; `checkpoint`: where the run goes on;
 * `config`: what the log says of the run; `toml`: the file that repeats it; `observe`: flags about how it is observed;
 * `threshold`: what its policy compares with; `before`: measures the model before the first step; `joined`: the ranks of the run
 * @returns The run; its folder is locked until it is disposed of
 * @throws {AlreadyExistsError} When the folder holds something else
 * @throws {FileError} When it cannot be written, or another run has it
 * @throws {DataError} When the log of an interrupted run does not fit its checkpoint
 */
export async function openRun(
  gpu: Gpu,
  options: RunOptions,
): Promise<Run> {
  const { out, model, checkpoint, lookEvery, config, toml, observe, threshold, before } = options;
  if (options.joined?.follows) return await followRun(gpu, options);
  const folder = await claimFolder(out, { resumed: checkpoint !== null, model });
  await using stack = new AsyncDisposableStack();
  stack.use(await lockFolder(folder));
  // The look after the checkpoint brings all steps since the one before it once more.
  const upTo = checkpoint === null ? undefined : checkpoint.step - checkpoint.step % lookEvery;
  const logger = loggerOf(observe, { folder, from: upTo ?? 0 });
  const log = await openLog(`${folder}/metrics.jsonl`, { upTo, at: checkpoint?.step, logger });
  const page = observe.watch === null
    ? null
    : stack.use(await watchedRun(`${folder}/metrics.jsonl`, { port: observe.watch }));
  if (page !== null) print(`watching    ${page.url}`);
  if (checkpoint === null) {
    const line = { kind: "start", config: { ...config, out: folder }, adapter: gpu.name } as const;
    await log.add([{ ...line, ...threshold && { threshold }, ...await before() }]);
  } else print(`resumed     at step ${checkpoint.step} of ${config.steps}, from ${checkpoint.path}`);
  const [start] = log.lines;
  if (start?.kind !== "start") {
    throw new DataError(
      `Cannot resume as "${folder}/metrics.jsonl" must begin with a start line: it was changed`,
    );
  }
  await keepConfig(folder, toml, { resumedAt: checkpoint?.step ?? null });
  const held = stack.move();
  return { folder, log, start, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

/** The run of a rank that writes nothing: its log, which decisions may need, is in memory. */
async function followRun(gpu: Gpu, { out, checkpoint, lookEvery, config }: RunOptions): Promise<Run> {
  const name = "metrics.jsonl", upTo = checkpoint && checkpoint.step - checkpoint.step % lookEvery;
  const file: Record<string, Uint8Array> = checkpoint === null
    ? {}
    : { [name]: await hostFileSystem().read(`${out}/${name}`) };
  const log = await openLog(name, {
    fileSystem: memoryFileSystem(file),
    upTo: upTo ?? undefined,
    at: checkpoint?.step,
  });
  const start: StartLine = { kind: "start", config: { ...config, out }, adapter: gpu.name };
  if (checkpoint === null) await log.add([start]);
  return { folder: out, log, start, [Symbol.asyncDispose]: () => Promise.resolve() };
}

/** How fast steps are, since the look before. */
export interface Pace {
  readonly stepMs: number;
  readonly tokensPerSecond?: number;
  /** On the device at the look. */
  readonly memoryBytes: number;
  readonly exchangeMs?: number;
  readonly exchangeWaitedMs?: number;
}

/** What {@link trainRun} needs besides the run. */
export interface TrainOptions<B extends TensorTree> {
  /** Name of the command. */
  readonly command: string;
  /** What the command line asked for. */
  readonly request: Pick<RunRequest<RunTable>, "checkpoint" | "newRate">;
  /** Flags that a checkpoint keeps. */
  readonly flags: RunRequest<RunTable>["values"] & ObserveFlags & Averaging & { readonly steps: number };
  /** SHA-256 of the module of the policy; null without one. */
  readonly policyHash: string | null;
  /** This process among those that train together: rank 0 saves, and decides when an interrupted run ends. */
  readonly joined?: Joined | null;
  readonly training: Training<object, B>;
  /** Parameters before the first step. */
  readonly params: object;
  readonly batches: { from(step: number): Iterable<B> | AsyncIterable<B> };
  /** Tokens in a batch, where tokens are counted. */
  readonly tokens?: number;
  /** What is printed every so many steps, such as a text that the model writes. */
  readonly watch?: { readonly every: number; readonly show: (params: object) => Promise<string> };
  /** Evaluations while it trains. */
  readonly evaluations?: RunEvaluations;
  /** What stands beside the bar after a look. */
  readonly facts: (losses: readonly number[], pace: Pace) => readonly string[];
}

/**
 * Takes the steps of a run: logs them, saves checkpoints, and ends after the step in which a signal comes.
 *
 * @param gpu The device
 * @param run The run
 * @param options The training, its batches, and how it goes on
 * @returns The last state
 * @throws {InterruptedError} At SIGINT or SIGTERM, once the state is saved
 * @throws {LostRunError} When the device is lost
 */
export async function trainRun<B extends TensorTree>(
  gpu: Gpu,
  run: Run,
  options: TrainOptions<B>,
): Promise<TrainingState<object>> {
  try {
    return await takeSteps(gpu, run, options);
  } catch (error) {
    throw lostRun(error, { ...options, folder: run.folder }) ?? error;
  }
}

async function takeSteps<B extends TensorTree>(
  gpu: Gpu,
  run: Run,
  options: TrainOptions<B>,
): Promise<TrainingState<object>> {
  const { command, request: { checkpoint, newRate }, flags, policyHash, training, tokens, joined } = options;
  const follows = joined?.follows ?? false, averaged = isAveraged(flags), saves = !follows || averaged;
  const { folder, log } = run;
  const extra = extraOf(command, {
    flags: { ...flags, out: folder },
    policyHash,
    ranks: joined?.ranks.size ?? 1,
  });
  await using keeper = checkpointKeeper<object>(gpu, {
    path: lastCheckpoint(folder),
    every: flags.checkpoint,
    ...flags["checkpoint-minutes"] !== null && { minutes: flags["checkpoint-minutes"] },
    keep: flags.keep,
    best: flags["keep-best"],
    // Room that nothing else asks for is known only where nothing limits it.
    copy: flags.memory === null,
    extra,
    ...averaged && { ranks: joined?.ranks },
  });
  let state = checkpoint === null
    ? await training.init(options.params)
    : await training.resume(checkpoint, { newRate }) as TrainingState<object>;
  if (state.movedFrom !== undefined) {
    print(`moved       from ${state.movedFrom} to ${gpu.name}: the run goes on with other bits`);
  }
  // A run can be resumed from its very beginning.
  if (checkpoint === null && saves) await keeper.save(state);
  const bar = progress(flags.steps, { first: state.step, display: flags.progress });
  bar.update(state.step, ["compiling the training step"]);
  let clockAt = performance.now(), looked = state.step, memory = "";
  using signals = catchSignals(command, { says: !joined });
  const begun = performance.now(), waits = { ms: 0 }, exchange = exchangePace();
  // A run may have been interrupted once it was to end.
  const over = options.evaluations?.begin(log.lines) ?? false;
  const states = over ? [] : survivingSteps(training, state, {
    batchesAfter: (step) => waitingFor(options.batches.from(step * training.accumulate + 1), waits),
    joined: joined ?? null,
    say: bar.say,
  });
  for await (state of states) {
    if (log.lines.every(({ kind }) => kind !== "components")) {
      await log.add([componentsLine(training)]);
    }
    exchange.add(state.exchange);
    const taken = training.memory(), now = taken === null ? "" : memoryText(taken);
    // Another frozen set takes other bytes.
    if (now !== memory) bar.say(`memory      ${memory = now}`);
    if (state.look !== null) {
      const stepMs = (performance.now() - clockAt) / (state.step - looked);
      [clockAt, looked] = [performance.now(), state.step];
      const pace: Pace = {
        stepMs,
        memoryBytes: gpu.counts.bytes,
        ...exchange.take(),
        ...tokens !== undefined &&
          { tokensPerSecond: Math.round(training.accumulate * tokens / stepMs * 1000) },
      };
      await log.add(stepLines(state, pace));
      const facts = [...options.facts(state.look.loss, pace), rateText(stepMs), frozenText(training, state)];
      bar.update(state.step, facts);
    } else bar.move(state.step);
    if (state.rolledBack !== undefined) {
      const { from, why } = state.rolledBack;
      [clockAt, looked] = [performance.now(), state.step];
      bar.say(`step ${from}: back to step ${state.step}: ${why}`);
    }
    const skipped = state.look?.skipped ?? [];
    if (skipped.length > 0 && flags["on-nan"] === "skip") {
      bar.say(
        `skipped: ${skipped.length === 1 ? "step" : "steps"} ${
          skipped.join(", ")
        }, as a loss or gradient was not finite`,
      );
    }
    if (state.event !== null) {
      await log.add([{ kind: "freeze", ...state.event }]);
      bar.say(freezeText(state.event));
    }
    const shows = options.watch !== undefined && !follows && state.step % options.watch.every === 0 &&
      !state.done;
    const judges = options.evaluations?.due(state.step) ?? false;
    // Steps are queued: what follows would wait for them, and their time is theirs.
    if (shows || judges) await read(gpu, state.loss!);
    const apart = performance.now();
    if (shows) {
      const text = await training.withWeights(state, options.watch!.show);
      await log.add([{ kind: "sample", step: state.step, text }]);
      bar.say(`step ${state.step}: ${quoted(text)}`);
    }
    const stop = judges && await options.evaluations!.after(state, { log, say: bar.say });
    clockAt += performance.now() - apart;
    const signal = follows ? null : signals.caught();
    const ends = signal !== null && !state.done;
    // The others would have to save the same step.
    if (ends && !averaged) await keeper.save(state);
    else if (saves) await keeper.after(state);
    if (ends) {
      bar.end();
      const saved = averaged ? "the last checkpoint of all ranks stays" : `step ${state.step} is saved`,
        mend = `${saved}: go on with --resume ${folder}`;
      if (await hasFailed()) throw new RanksError(`Cannot go on as another rank failed; ${mend}`);
      throw new InterruptedError(signal, mend);
    }
    if (stop) break;
  }
  await keeper.flush();
  bar.end();
  if (waits.ms > 0) {
    print(
      `waiting     ${(100 * waits.ms / (performance.now() - begun)).toFixed(1)} % of the time was for data`,
    );
  }
  // From here on the run can be ended at any time: the last checkpoint stays until all is written.
  return state;
}

/** Adds up the time in which batches that are made elsewhere are waited for. */
function waitingFor<B>(
  batches: Iterable<B> | AsyncIterable<B>,
  waits: { ms: number },
): Iterable<B> | AsyncIterable<B> {
  return Symbol.asyncIterator in batches ? timed(batches, waits) : batches;
}

async function* timed<B>(
  batches: AsyncIterable<B>,
  waits: { ms: number },
): AsyncGenerator<B, void, undefined> {
  let asked = performance.now();
  for await (const batch of batches) {
    waits.ms += performance.now() - asked;
    yield batch;
    asked = performance.now();
  }
}

/** What stands beside the bar where tokens are counted: the last loss, and the pace. */
export function tokenFacts(losses: readonly number[], { tokensPerSecond }: Pace): readonly string[] {
  return [`loss ${losses.at(-1)!.toFixed(3)}`, `${tokensPerSecond} tokens/s`];
}

/** Rows of a summary: what each is called, and its text. */
export type Summary = readonly (readonly [label: string, text: string])[];

/** The row of the products of a step, in GFLOP. */
export function gflopRow(first: number, last: number): Summary[number] {
  return ["GFLOP a step", change(first / 1e9, last / 1e9, 2)];
}

/**
 * Sums up what a run cost.
 *
 * @param gpu The device
 * @param options The training, its last state, when it began, by `performance.now()`, and the row of the operations of a step
 * @returns The rows
 */
export function costRows(
  gpu: Gpu,
  { training, state, began, flops }: {
    readonly training: Pick<Training<object, never>, "components" | "costOf">;
    readonly state: TrainingState<object>;
    readonly began: number;
    readonly flops: (first: number, last: number) => Summary[number];
  },
): Summary {
  const [first, last] = [training.costOf([]), state.cost!], all = training.components().length;
  return [
    ["Frozen", `${state.frozen.length} of ${counted(all, "component")}`],
    flops(first.matmulFlops, last.matmulFlops),
    ["Launches a step", change(first.launches, last.launches, 0)],
    ["Traffic a step", `${bytesText(first.bytes)} → ${bytesText(last.bytes)} read and written by kernels`],
    ...first.exchanged === undefined ? [] : [[
      "Exchange a step",
      `${bytesText(first.exchanged)} → ${bytesText(last.exchanged ?? 0)} by each rank`,
    ]] as const,
    [
      "Device memory",
      `${bytesText(gpu.counts.peakBytes)} at most, ${bytesText(first.memory)} of it intermediate values`,
    ],
    ["Steps", `${state.step} in ${clock(performance.now() - began)}${endingText(state.ending)}`],
    ["Adapter", gpu.name],
  ];
}

/**
 * Ends a run: the last line of the log, then the report, and no checkpoint any more.
 *
 * @param run The run
 * @param options The last state, the training, the model after it, and what the report says
 */
export async function finishRun(
  { folder, log }: Run,
  { state, training, after, title, summary }: {
    readonly state: TrainingState<object>;
    readonly training: Pick<Training<object, never>, "components">;
    readonly after: Quality;
    readonly title: string;
    readonly summary: Summary;
  },
): Promise<void> {
  await log.add([{ kind: "end", ...after, ...state.ending && { ending: state.ending } }]);
  const report = reportOf(log.lines, { title, summary, components: training.components() });
  await hostFileSystem().write(`${folder}/report.html`, await renderReport(report));
  await removeCheckpoint(lastCheckpoint(folder));
}

/** Prints a summary. */
export function printSummary(summary: Summary): void {
  for (const [label, text] of summary) print(`${label.toLowerCase().padEnd(15)} ${text}`);
}
