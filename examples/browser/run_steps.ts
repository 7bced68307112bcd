/**
 * The steps of a run that can be paused, and asked for something between two of them.
 *
 * @module
 */

import { type Gpu, scan, type TrainingState } from "@firn/train";
import { type Checkpoint, type CheckpointKeeper, checkpointKeeper } from "@firn/train/checkpoint";
import type { FileSystem } from "@firn/train/data";
import { componentsLine, type Line, openLog, type RunLog, stepLines } from "@firn/train/report";
import type { Desk } from "./desk.ts";
import { CHECKPOINT, LOG } from "./run_files.ts";
import type { Session } from "./session.ts";

/** Milliseconds between checkpoints. */
const SAVE_EVERY = 60_000;

/** Milliseconds between writes of the log: a browser copies all of a file to append to it. */
const LOG_EVERY = 5_000;

/** What {@link runSteps} needs besides the session. */
export interface StepOptions {
  /** Where the run goes on; null where it begins. */
  readonly checkpoint: Checkpoint | null;
  readonly fileSystem: FileSystem;
  readonly desk: Desk;
  /** Writes a sample. */
  readonly sample: (params: object, when: string) => Promise<string>;
  /** Hears all lines of the log at first, then new ones. */
  readonly onLines: (lines: readonly Line[], all: boolean) => void;
  /** Hears how many steps were taken. */
  readonly onStep: (step: number) => void;
  /** Hears that the state is saved and steps wait, and that they go on. */
  readonly onPause: (paused: boolean) => void;
}

/**
 * Takes the steps of a run, and keeps its log and its checkpoints.
 *
 * @param gpu The device
 * @param session What is trained
 * @param options Where it goes on, its files, and who hears of it
 * @returns The last state, which is saved; that of the last step when the desk ended the run
 */
export async function runSteps(
  gpu: Gpu,
  session: Session,
  options: StepOptions,
): Promise<TrainingState<object>> {
  const { checkpoint, desk, onStep, fileSystem } = options, { training, record: extra } = session;
  const log = await beginLog(gpu, session, options);
  // It saves whenever it is told of a state.
  await using keeper = checkpointKeeper<object>(gpu, { path: CHECKPOINT, every: 1, extra, fileSystem });
  let state = checkpoint === null
    ? await training.init(session.model.params)
    : await training.resume(checkpoint) as TrainingState<object>;
  if (checkpoint === null) await keeper.save(state);
  onStep(state.step);
  const clock = paceClock(state.step), saving = timer(SAVE_EVERY);
  const batches = state.done ? [] : session.batches.from(state.step + 1);
  for await (state of scan(training, state, batches)) {
    await tellStep(state, { session, log, clock, options });
    if (state.done) {
      await log.flush();
      await keeper.save(state);
    } else {
      if (saving.due()) {
        await log.flush();
        await keeper.after(state);
      }
      await clock.without(() => attend(state, { session, options, keeper, log }));
    }
    if (desk.stopped) return state;
  }
  const sample = await training.withWeights(state, (weights) => options.sample(weights, "after"));
  const { ending } = state;
  await tellLines([{ kind: "end", sample, ...ending && { ending } }], { log, options });
  await log.flush();
  return state;
}

async function beginLog(
  gpu: Gpu,
  { record, lookEvery, model }: Session,
  { checkpoint, fileSystem, onLines, sample }: StepOptions,
): Promise<SlowLog> {
  // The look after the checkpoint brings all steps since the one before it once more.
  const { step } = checkpoint ?? { step: 0 }, looked = step - step % lookEvery;
  const upTo = checkpoint === null ? undefined : step === record.settings.steps ? step : looked;
  const log = await openLog(LOG, { upTo, fileSystem });
  if (checkpoint === null) {
    const before = await sample(model.params, "before");
    await log.add([{ kind: "start", config: { ...record }, adapter: gpu.name, sample: before }]);
  }
  onLines(log.lines, true);
  return slowLog(log);
}

/** A log that is written now and then, and before every checkpoint, which must not be ahead of it. */
interface SlowLog extends RunLog {
  /** Writes what is not written yet. */
  flush(): Promise<void>;
}

function slowLog(log: RunLog): SlowLog {
  let waiting: Line[] = [];
  const lines = [...log.lines], writing = timer(LOG_EVERY);
  const flush = async (): Promise<void> => {
    const now = waiting;
    waiting = [];
    if (now.length > 0) await log.add(now);
  };
  return {
    lines,
    flush,
    async add(more) {
      lines.push(...more);
      waiting.push(...more);
      if (writing.due()) await flush();
    },
  };
}

/** Says once in so many milliseconds that something is due. */
function timer(every: number): { due(): boolean } {
  let last = performance.now();
  return {
    due() {
      const now = performance.now(), due = now - last >= every;
      if (due) last = now;
      return due;
    },
  };
}

async function tellLines(
  lines: readonly Line[],
  { log, options }: { readonly log: SlowLog; readonly options: StepOptions },
): Promise<void> {
  if (lines.length === 0) return;
  await log.add(lines);
  options.onLines(lines, false);
}

async function tellStep(
  state: TrainingState<object>,
  { session: { training, tokens }, log, clock, options }: {
    readonly session: Session;
    readonly log: SlowLog;
    readonly clock: PaceClock;
    readonly options: StepOptions;
  },
): Promise<void> {
  const lines: Line[] = [];
  if (log.lines.every(({ kind }) => kind !== "components")) {
    lines.push(componentsLine(training));
  }
  if (state.look !== null) {
    const stepMs = clock.lap(state.step);
    lines.push(...stepLines(state, { stepMs, tokensPerSecond: Math.round(tokens / stepMs * 1000) }));
  }
  if (state.event !== null) lines.push({ kind: "freeze", ...state.event });
  await tellLines(lines, { log, options });
  options.onStep(state.step);
}

/** Does what was asked for between two steps, and waits while they are paused. */
async function attend(
  state: TrainingState<object>,
  { session, options: { desk, onPause }, keeper, log }: {
    readonly session: Session;
    readonly options: StepOptions;
    readonly keeper: CheckpointKeeper<object>;
    readonly log: SlowLog;
  },
): Promise<void> {
  // Messages of a page are tasks: awaiting what is there already lets none of them in.
  await nextTask();
  const { paused } = desk;
  if (paused) {
    await log.flush();
    await keeper.save(state);
    onPause(true);
  }
  for (let work = await desk.next(); work !== null; work = await desk.next()) await work(state, session);
  if (paused && !desk.stopped) onPause(false);
}

function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/** Measures steps, but not what is done between them. */
interface PaceClock {
  /** Milliseconds of a step since the last call. */
  lap(step: number): number;
  /** Does work that no step is measured with. */
  without(work: () => Promise<void>): Promise<void>;
}

function paceClock(first: number): PaceClock {
  let from = performance.now(), looked = first;
  return {
    lap(step) {
      const now = performance.now(), stepMs = (now - from) / (step - looked);
      [from, looked] = [now, step];
      return stepMs;
    },
    async without(work) {
      const start = performance.now();
      await work();
      from += performance.now() - start;
    },
  };
}
