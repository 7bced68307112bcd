/**
 * One training of the study, with its time taken apart. The clock stands while quality is judged.
 *
 * @module
 */

import {
  flatten,
  free,
  type Gpu,
  type Json,
  type Precision,
  sizeOf,
  type Tensor,
  type TrainingState,
} from "@firn/train";
import { earlyStopping } from "@firn/train/policies";
import { isConstant } from "../../core/runtime/residents.ts";
import { snapshot } from "../../core/train/state/snapshot.ts";
import type { Compiled, PowerMeter } from "./study_clocks.ts";
import { kindOf, type StudyBatch, trainBatches } from "./study_data.ts";
import type { CurvePoint, StudyLine } from "./study_lines.ts";
import type { Subject } from "./study_models.ts";
import { type Arm, lengthOf, type PlannedRun, stopStep, type StudyLength } from "./study_plan.ts";
import { tauOf } from "./study_policies.ts";
import { medianOf } from "./study_statistics.ts";
import { type OpenTraining, openTraining } from "./study_trainings.ts";

/** What all runs share. */
export interface StudyLab extends StudyLength {
  readonly gpu: Gpu;
  readonly precision: Precision;
  readonly compiled: Compiled;
  readonly power: PowerMeter;
  readonly versions: StudyLine["versions"];
}

/** A training: one run, or several that are read off it. */
export interface StudyCourse {
  readonly subject: Subject;
  /** The run; the first of those that are read off. */
  readonly run: PlannedRun;
  /** Whose lines are wanted: the arm of the run, or those of {@link OF_FULL}. */
  readonly arms: readonly Arm[];
  /** Threshold of GradES; null where the run finds it. */
  readonly tau: number | null;
}

type State = TrainingState<object>;

/** Milliseconds and work up to a step. */
interface Meter {
  /** Of the clock, with compiling. */
  readonly clocked: number;
  readonly compiling: number;
  /** Recording of changed frozen sets in the step behind them, without compiling. Their planning is in {@link Progress.looks}. */
  readonly changing: number;
  /** What early stopping would have paid so far, and drawn. */
  readonly validating: number;
  readonly validatingJoules: number | null;
  readonly flops: number;
  readonly joules: number | null;
}

/** A sum of energies of which none is unknown. */
function sumOf(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a + b;
}

/** What is known of a training so far. */
interface Progress {
  meter: Meter;
  /** Seconds of the first step. */
  setup: number;
  /** Arms without a line. */
  waiting: readonly Arm[];
  tau: number | null;
  readonly points: (Meter & { readonly step: number; readonly quality: number })[];
  readonly lines: StudyLine[];
  /** Milliseconds of steps with a look, without compiling, and whether it changed the frozen set, whose costs it then plans. */
  readonly looks: { readonly ms: number; readonly changed: boolean }[];
  /** Whether the next step is the first one of another frozen set. */
  changed: boolean;
  /** Of early stopping: its state, and copies of the best weights. */
  judged?: Json;
  best?: { readonly params: object; readonly step: number };
}

/** All that the parts of a training need. */
interface Scene {
  readonly lab: StudyLab;
  readonly course: StudyCourse;
  readonly definition: OpenTraining;
  readonly progress: Progress;
  /** Quality, perplexity and bytes before the first step. */
  readonly start: { readonly quality: number; readonly perplexity: number | null; readonly bytes: number };
}

const STOPPING = earlyStopping({ minDelta: 5e-4, patience: 3 });

/**
 * Trains, and tells what came of it.
 *
 * @param lab Device and lengths
 * @param course What to train
 * @returns A line for each arm that is wanted
 */
export async function trainCourse(
  { gpu, ...given }: StudyLab,
  course: StudyCourse,
): Promise<StudyLine[]> {
  const { subject, run, arms, tau } = course, lab: StudyLab = lengthOf({ gpu, ...given }, run.task);
  const definition = openTraining(lab, course), bytes = gpu.counts.bytes - definition.held;
  let state: State | null = null, progress: Progress | null = null, params: object | null = null;
  try {
    params = await subject.paramsOf(run.seed);
    state = await definition.training.init(params);
    const start = { bytes, ...await subject.start(state.params, run.seed) };
    const none = { clocked: 0, compiling: 0, changing: 0, validating: 0 };
    const meter: Meter = { ...none, validatingJoules: 0, flops: 0, joules: 0 };
    const points = [{ ...meter, step: 0, quality: start.quality }];
    progress = { meter, setup: 0, waiting: arms, tau, points, lines: [], looks: [], changed: false };
    const scene: Scene = { lab, course, definition, progress, start };
    gpu.counts.peakBytes = gpu.counts.bytes;
    const rows = subject.data.train.slice(0, run.task.rows);
    const sizes = { ...run.task, padding: subject.padding, kind: kindOf(run.task.model, subject.data) };
    const batches = trainBatches(rows, { ...sizes, seed: run.seed });
    while (progress.waiting.length > 0) {
      state = await stepsToLook(scene, { state, batches });
      await lookAround(scene, state);
    }
    gpu.check();
    return progress.lines;
  } finally {
    if (progress?.best) free(progress.best.params);
    if (state !== null) {
      free(state.params);
      free(Object.fromEntries(state.leaves));
    }
    if (params !== null) subject.release(params);
    const whole = progress !== null && progress.waiting.length === 0;
    definition.close({ whole, held: gpu.counts.bytes - bytes });
  }
}

/** Takes the steps up to the next look, while the clock runs. The first step of all stands apart. */
async function stepsToLook(
  { lab: { gpu, compiled, power }, definition: { training, planned }, progress }: Scene,
  { state, batches }: { state: State; readonly batches: Iterator<StudyBatch> },
): Promise<State> {
  let began = performance.now(), cold = compiled(), { flops, changing } = progress.meter;
  do {
    const called = performance.now() - compiled(), { changed } = progress, { probed } = state;
    state = await training.next(state, batches.next().value);
    flops += state.cost!.flops;
    const ms = performance.now() - compiled() - called;
    // The device is idle after a look: what the next step prepares for a new set delays it in full.
    if (changed) changing += ms;
    progress.changed = state.event !== null || state.probed.join() !== probed.join();
    if (state.look !== null) progress.looks.push({ ms, changed: progress.changed });
    if (state.step === 1) {
      await gpu.device.queue.onSubmittedWorkDone();
      progress.setup = (performance.now() - began) / 1000;
      [began, cold] = [performance.now(), compiled()];
    }
  } while (state.look === null && !state.done && state.step < planned);
  const { meter } = progress, now = performance.now(), drawn = power.joules(began, now);
  progress.meter = {
    ...meter,
    flops,
    changing,
    clocked: meter.clocked + now - began,
    compiling: meter.compiling + compiled() - cold,
    joules: sumOf(meter.joules, drawn),
  };
  progress.tau ??= tauOf(state.policy);
  return state;
}

/** What happens at a look, while the clock stands: arms that end here get their line. */
async function lookAround(scene: Scene, state: State): Promise<void> {
  const { progress, lab, course: { subject, run }, definition: { planned } } = scene, { step } = state;
  const done = state.done || step === planned;
  const end = async (arm: Arm, weights: object, best: number): Promise<void> => {
    progress.lines.push(await lineOf(scene, { arm, state, weights, best }));
    progress.waiting = progress.waiting.filter((other) => other !== arm);
  };
  if (progress.waiting.includes("early stopping") && (await validate(scene, state) || done)) {
    await end("early stopping", progress.best!.params, progress.best!.step);
  }
  for (const arm of progress.waiting) if (stopStep(arm, lab) === step) await end(arm, state.params, step);
  if (done) { for (const arm of progress.waiting) await end(arm, state.params, step); }
  else if (run.purpose === "final" && step % lab.judge === 0) {
    const quality = await subject.quality(state.params, "test");
    progress.points.push({ ...progress.meter, step, quality });
  }
}

/** Validates as early stopping does, with a copy of the weights that are the best so far; true when it ends. */
async function validate(
  { lab, course: { subject }, progress }: Scene,
  state: State,
): Promise<boolean> {
  const began = performance.now(), { step } = state, { power } = lab;
  const loss = await subject.validationLoss(state.params);
  const look = { steps: [step], loss: [NaN], learningRate: [NaN], readings: {}, validation: [loss] };
  const judged = STOPPING.next(progress.judged ?? STOPPING.init([], { steps: step }), look);
  progress.judged = judged;
  if (STOPPING.best?.(judged) === step) {
    if (progress.best) free(progress.best.params);
    const { params } = snapshot(lab.gpu, { ...state, leaves: new Map<string, Tensor>(), loss: null });
    progress.best = { step, params };
    await lab.gpu.device.queue.onSubmittedWorkDone();
  }
  const { meter } = progress, now = performance.now();
  progress.meter = {
    ...meter,
    validating: meter.validating + now - began,
    validatingJoules: sumOf(meter.validatingJoules, power.joules(began, now)),
  };
  return STOPPING.stopped?.(judged, []) ?? false;
}

/**
 * Milliseconds by which looks that change the frozen set are longer than others.
 *
 * @param looks Their milliseconds; without one that changes nothing it is 0
 */
export function planningOf(looks: readonly { readonly ms: number; readonly changed: boolean }[]): number {
  const usual = medianOf(looks.flatMap(({ ms, changed }) => changed ? [] : [ms]));
  const more = looks.map(({ ms, changed }) => changed ? Math.max(0, ms - usual) : 0);
  return Number.isNaN(usual) ? 0 : more.reduce((a, b) => a + b, 0);
}

/** Seconds of a meter, for an arm that pays for validation or not. */
function secondsOf({ clocked, compiling, validating }: Meter, pays: boolean): number {
  return (clocked - compiling + (pays ? validating : 0)) / 1000;
}

/** The line of an arm that ends at a state, with some weights. */
async function lineOf(
  { lab, course: { subject, run }, definition, progress, start }: Scene,
  { arm, state, weights, best }: {
    readonly arm: Arm;
    readonly state: State;
    readonly weights: object;
    readonly best: number;
  },
): Promise<StudyLine> {
  const { meter, points, setup, tau } = progress, { planned, policy, never, training } = definition;
  const test = await subject.judge(weights, "test"), quality = await subject.quality(weights, "validation");
  const after = await subject.perplexity(weights), pays = arm === "early stopping";
  const seconds = secondsOf(meter, pays);
  const earlier = points.filter(({ step }) => step < state.step);
  const copies = pays || progress.best === undefined ? 0 : bytesCopied(progress.best.params);
  return {
    task: run.task.name,
    arm,
    rate: run.rate,
    seed: run.seed,
    purpose: run.purpose,
    planned,
    steps: state.step,
    best,
    seconds,
    setup,
    compiling: meter.compiling / 1000,
    changing: (meter.changing + planningOf(progress.looks)) / 1000,
    validating: pays ? meter.validating / 1000 : 0,
    flops: meter.flops,
    joules: pays ? sumOf(meter.joules, meter.validatingJoules) : meter.joules,
    peakBytes: lab.gpu.counts.peakBytes - start.bytes - copies,
    quality: test.quality,
    loss: test.loss,
    validation: quality,
    start: start.quality,
    perplexity: start.perplexity === null || after === null ? null : [start.perplexity, after],
    frozen: state.frozen.length + never,
    components: training.components().length + never,
    tau,
    policy,
    curve: [
      ...earlier.map((point): CurvePoint => [secondsOf(point, pays), point.step, point.flops, point.quality]),
      [seconds, state.step, meter.flops, test.quality],
    ],
    precision: lab.precision,
    versions: lab.versions,
    date: new Date().toISOString(),
  };
}

/** Bytes of what a copy of weights has of its own, which is f32: it shares constants, such as the base of an adapter. */
function bytesCopied(copy: object): number {
  return [...flatten(copy).values()].reduce(
    (n, tensor) => isConstant(tensor) ? n : n + 4 * sizeOf(tensor.shape),
    0,
  );
}
