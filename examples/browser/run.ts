/**
 * One run: from its files to what a person takes away. Nothing here knows of a page: the test runs it in Deno, too.
 *
 * @module
 */

import { freeState, type Gpu, type TrainingState } from "@firn/train";
import { type Checkpoint, loadCheckpoint } from "@firn/train/checkpoint";
import { type FileSystem, memoryFileSystem } from "@firn/train/data";
import { type Desk, openDesk } from "./desk.ts";
import type { Tell } from "./messages.ts";
import { CHECKPOINT, MODEL, ownModel, textPath } from "./run_files.ts";
import { runSteps } from "./run_steps.ts";
import { openSession, type Session } from "./session.ts";
import type { RunRecord } from "./settings.ts";
import { zipFolder } from "./zip.ts";

/** A run that was begun. Disposing of it ends it after the step that is taken. */
export interface Run extends AsyncDisposable {
  /** Takes no step after the one that is taken, and saves. */
  pause(): void;
  /** Goes on. */
  resume(): void;
  /** Writes a sample before the next step. */
  sample(): void;
  /** Hands over the model or the adapter as it is before the next step. */
  download(): void;
  /** Until it was disposed of; throws when it fails. */
  readonly ended: Promise<void>;
}

/** What {@link beginRun} is given. */
export interface RunOptions {
  readonly record: RunRecord;
  /** Whether the run goes on where its checkpoint is. */
  readonly resumed: boolean;
  /** Where its files are, the text among them. */
  readonly fileSystem: FileSystem;
  /** Address beside which the page's own model lies. */
  readonly base: string;
  /** Hears of it. */
  readonly tell: (message: Tell) => void;
}

/**
 * Begins a run, or goes on with it.
 *
 * @param gpu The device
 * @param options The run, and who hears of it
 * @returns The run
 */
export function beginRun(gpu: Gpu, options: RunOptions): Run {
  const desk = openDesk(), ended = live(gpu, { ...options, desk });
  return {
    pause: desk.pause,
    resume: desk.resume,
    sample: () => desk.ask((state, session) => sampleNow(state, { session, tell: options.tell })),
    download: () => desk.ask(async (state, session) => options.tell(await modelFile(state, session))),
    ended,
    async [Symbol.asyncDispose]() {
      desk.stop();
      // Who began the run hears of its failure by `ended`.
      await ended.catch(() => {});
    },
  };
}

async function live(gpu: Gpu, options: RunOptions & { readonly desk: Desk }): Promise<void> {
  const { record, resumed, fileSystem, base, desk, tell } = options;
  const phase = (name: "preparing" | "running" | "paused" | "done") => tell({ kind: "phase", phase: name });
  const onStatus = (text: string) => tell({ kind: "status", text });
  phase("preparing");
  onStatus(`Loading ${record.model}`);
  const model = record.own ? ownModel(base) : { path: MODEL, fileSystem };
  const checkpoint: Checkpoint | null = resumed ? await loadCheckpoint(CHECKPOINT, { fileSystem }) : null;
  const text = { path: textPath(record.text), fileSystem };
  using session = await openSession(gpu, { model, text, record, onStatus });
  tell({ kind: "facts", facts: session.facts });
  onStatus("Compiling kernels");
  const state = await runSteps(gpu, session, {
    checkpoint,
    fileSystem,
    desk,
    sample: (params, when) => sampleTold(session, { params, when, tell }),
    onLines: (lines, all) => tell({ kind: "lines", lines, all }),
    onStep(step) {
      if (step === (checkpoint?.step ?? 0)) phase("running");
      tell({ kind: "step", step, steps: record.settings.steps });
    },
    onPause: (paused) => phase(paused ? "paused" : "running"),
  });
  if (!desk.stopped) {
    phase("done");
    desk.pause();
    for (let work = await desk.next(); work !== null; work = await desk.next()) await work(state, session);
  }
  session.training[Symbol.dispose]();
  freeState(state);
}

/** Writes a sample, and tells of it piece by piece. */
async function sampleTold(
  session: Session,
  { params, when, tell }: {
    readonly params: object;
    readonly when: string;
    readonly tell: RunOptions["tell"];
  },
): Promise<string> {
  const told = (text: string, whole: boolean) => tell({ kind: "sample", when, text, whole });
  const text = await session.sample(params, (part) => told(part, false));
  told(text, true);
  return text;
}

async function sampleNow(
  state: TrainingState<object>,
  { session, tell }: { readonly session: Session; readonly tell: RunOptions["tell"] },
): Promise<void> {
  const when = `step ${state.step}`;
  await session.training.withWeights(state, (params) => sampleTold(session, { params, when, tell }));
}

async function modelFile(state: TrainingState<object>, session: Session): Promise<Tell> {
  const { model, settings: { method } } = session.record;
  const name = `${model.replace(/[^\w.-]+/g, "-")}-${method === "adapter" ? "adapter" : "trained"}`;
  const folder = { path: name, fileSystem: memoryFileSystem() };
  await session.training.withWeights(state, (params) => session.save(params, folder));
  return { kind: "file", name: `${name}.zip`, content: await zipFolder(folder, name) };
}
