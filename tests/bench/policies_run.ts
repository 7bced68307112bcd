/**
 * One training run of the comparison, with its time taken apart.
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  type Component,
  cosine,
  defineTraining,
  free,
  type FreezePolicy,
  type Gpu,
  type Json,
  type Model,
  nextTokenLoss,
  snapshot,
  type TokenBatch,
  type Training,
  type TrainingState,
} from "@firn/train";
import type { Change } from "./policies_list.ts";
import type { Quality, Task } from "./policies_tasks.ts";

/** What to train. */
export interface RunSpec {
  readonly label: string;
  /** Planned steps: the learning rate falls over all of them. */
  readonly steps: number;
  /** Of the order of batches, and of the weights where the model starts fresh. */
  readonly seed: number;
  readonly policy?: FreezePolicy;
  /** Ends training by the validation loss, and says which step was the best. */
  readonly stopping?: FreezePolicy;
  /** The policy is of no use for another seed: what was compiled for it is not kept. */
  readonly once?: boolean;
}

/** A validation during training. */
export interface Validation extends Quality {
  readonly step: number;
  /** Seconds of the run so far, as in `total`. */
  readonly seconds: number;
}

/** What came of a run. */
export interface Run {
  readonly label: string;
  readonly policy: string | null;
  readonly seed: number;
  readonly planned: number;
  /** Steps taken. */
  readonly steps: number;
  /** Components frozen at the end, and how many there are. */
  readonly frozen: number;
  readonly components: number;
  /** Paths of all that was ever frozen. */
  readonly everFrozen: readonly string[];
  readonly changes: readonly Change[];
  /** Wall time of the steps, looks and decisions with them, in seconds. */
  readonly stepping: number;
  /** Of these, how long the policy itself took to decide. */
  readonly deciding: number;
  /** Wall time in which changes of the frozen set and of probes were planned, compiled and recorded. */
  readonly changing: number;
  /** Of these, how long pipelines took to compile that the process had not seen; less where the driver keeps them on disk. */
  readonly compiling: number;
  /** Wall time of validations and copies of the best weights that early stopping needs; 0 for all others. */
  readonly validating: number;
  /** Sum of stepping, changing and validating. */
  readonly total: number;
  /** Floating-point operations of all steps, by their plans. */
  readonly flops: number;
  /** Seconds of the first step of this configuration, taken before the clock and thrown away: tuning and compiling. */
  readonly warmUp: number;
  readonly curve: readonly Validation[];
  /** On the test part, after the last step or with the best weights of early stopping. */
  readonly test: Quality;
}

/** What all runs share. */
export interface Lab {
  readonly gpu: Gpu;
  readonly task: Task;
  readonly learningRate: number;
  readonly lookEvery: number;
  /** The model that a seed starts from; its parameters are not consumed. */
  modelOf(seed: number): Promise<Model>;
}

/** What the policy itself took. */
interface Decided {
  /** When it was asked first, since this was NaN, what is frozen. */
  at: number;
  /** Milliseconds of its `next` so far. */
  ms: number;
}

/** Milliseconds that pipelines took to compile so far. */
type Compiled = () => number;

interface Bench {
  readonly training: Training<object, TokenBatch>;
  readonly warmUp: number;
  readonly decided: Decided;
}

/** Share of the planned steps between validations of early stopping, as in the paper of GradES; all others take two. */
const VALIDATE = 0.05;

/** Steps between validations of early stopping: whole looks, as the device is idle after one. */
export function validateEvery(steps: number, lookEvery: number): number {
  return Math.max(1, Math.round(VALIDATE * steps / lookEvery)) * lookEvery;
}

/** Trains configurations, each compiled once. */
export interface Runner {
  run(spec: RunSpec): Promise<Run>;
  /** FLOPs of a step with nothing frozen and nothing measured. */
  stepFlops(): number;
  /** Components of the model. */
  components(): readonly Component[];
}

/** Makes a {@link Runner}. Nothing is kept on the device between runs. */
export function runnerOf(lab: Lab): Runner {
  const benches = new Map<string, Bench>();
  const compiled = compileClock(lab.gpu);
  let plain: Training<object, TokenBatch> | null = null;

  async function benchOf(spec: RunSpec, model: Model): Promise<Bench> {
    const { steps, policy } = spec, key = `${steps} ${policy?.name}`;
    const known = benches.get(key);
    if (known !== undefined) return known;
    const decided: Decided = { at: NaN, ms: 0 };
    const training = defineTraining<object, TokenBatch>(lab.gpu, nextTokenLoss(model), {
      optimizer: chain(
        clipByGlobalNorm(1),
        adamW({ learningRate: cosine({ peak: lab.learningRate, warmup: Math.ceil(steps / 20), steps }) }),
      ),
      policy: policy && clocked(policy, decided),
      steps,
      lookEvery: Math.min(lab.lookEvery, steps),
    });
    const began = performance.now();
    const [batch] = lab.task.batches(spec.seed);
    const state = await training.next(await training.init(model.params), batch);
    await lab.gpu.device.queue.onSubmittedWorkDone();
    release(state);
    const bench = { training, decided, warmUp: (performance.now() - began) / 1000 };
    if (!spec.once) benches.set(key, bench);
    if (policy === undefined) plain ??= training;
    return bench;
  }

  return {
    async run(spec) {
      const model = await lab.modelOf(spec.seed);
      const bench = await benchOf(spec, model);
      try {
        return await train(lab, { spec, model, bench, compiled });
      } finally {
        bench.training[Symbol.dispose]();
      }
    },
    stepFlops: () => plain!.costOf([]).flops,
    components: () => plain!.components(),
  };
}

/** The policy with a clock. What follows the question what is frozen is the planning of a change. */
function clocked(policy: FreezePolicy, decided: Decided): FreezePolicy {
  return {
    ...policy,
    next(state, look) {
      const began = performance.now(), after = policy.next(state, look);
      decided.ms += performance.now() - began;
      return after;
    },
    frozen(state) {
      if (Number.isNaN(decided.at)) decided.at = performance.now();
      return policy.frozen(state);
    },
  };
}

/** Clocks what compiles from now on. */
function compileClock({ device }: Gpu): Compiled {
  let ms = 0;
  const clocked = <D, R>(make: (descriptor: D) => R) => (descriptor: D): R => {
    const began = performance.now(), made = make(descriptor);
    ms += performance.now() - began;
    return made;
  };
  device.createShaderModule = clocked(device.createShaderModule.bind(device));
  device.createComputePipeline = clocked(device.createComputePipeline.bind(device));
  return () => ms;
}

function release({ params, leaves }: Pick<TrainingState<object>, "params" | "leaves">): void {
  free(params);
  free(Object.fromEntries(leaves));
}

async function train(
  lab: Lab,
  { spec, model, bench, compiled }: {
    readonly spec: RunSpec;
    readonly model: Model;
    readonly bench: Bench;
    readonly compiled: Compiled;
  },
): Promise<Run> {
  const { task, gpu } = lab, { training, decided, warmUp } = bench, { stopping } = spec;
  const every = validateEvery(spec.steps, lab.lookEvery) * (stopping === undefined ? 2 : 1);
  const changes: Change[] = [], curve: Validation[] = [], everFrozen = new Set<string>();
  let state = await training.init(model.params);
  const watch = await task.watch(state.params);
  let best: object | null = null, judgement: Json | undefined;
  let clocked = 0, changing = 0, compiling = 0, validating = 0, flops = 0, changed = false;

  /** Validates while the clock stands, except for what early stopping needs. */
  async function validate(): Promise<boolean> {
    const began = performance.now(), { step } = state;
    const loss = await watch.loss();
    if (stopping !== undefined) {
      const none = { steps: [step], loss: [NaN], learningRate: [NaN], readings: {} };
      judgement = stopping.next(judgement ?? stopping.init([], spec), { ...none, validation: [loss] });
      if (stopping.best?.(judgement) === step) {
        if (best !== null) free(best);
        best = snapshot(gpu, { ...state, leaves: new Map(), loss: null }).params;
        await gpu.device.queue.onSubmittedWorkDone();
      }
      validating += performance.now() - began;
    }
    const accuracy = await watch.accuracy();
    curve.push({ step, seconds: (clocked + validating) / 1000, loss, accuracy });
    return stopping?.stopped?.(judgement!, []) ?? false;
  }

  await gpu.device.queue.onSubmittedWorkDone();
  let began = performance.now(), stopped = false;
  decided.ms = 0;
  for (const batch of task.batches(spec.seed)) {
    const called = performance.now(), before = compiled(), { probed } = state, after = changed;
    decided.at = NaN;
    state = await training.next(state, batch);
    // The device is idle after a look: what the next step prepares for a new set delays it in full.
    if (changed) changing += performance.now() - called;
    // Probes are measured by steps of their own.
    changed = state.event !== null || state.probed.join() !== probed.join();
    if (changed) changing += performance.now() - decided.at;
    if (changed || after) compiling += compiled() - before;
    if (state.event !== null) {
      changes.push({ step: state.step, frozen: state.frozen.length });
      for (const path of state.frozen) everFrozen.add(path);
    }
    flops += state.cost!.flops;
    if (!state.done && (state.step % every !== 0 || state.look === null)) continue;
    clocked += performance.now() - began;
    stopped = await validate();
    if (state.done || stopped) break;
    began = performance.now();
  }

  watch.close();
  const test = await task.test(best ?? state.params);
  gpu.check();
  if (best !== null) free(best);
  release(state);
  const times = [clocked - changing, changing, compiling, validating];
  const [stepping, extra, cold, watching] = times.map((ms) => ms / 1000);
  return {
    label: spec.label,
    policy: (spec.policy ?? stopping)?.name ?? null,
    seed: spec.seed,
    planned: spec.steps,
    steps: state.step,
    frozen: state.frozen.length,
    components: training.components().length,
    everFrozen: [...everFrozen],
    changes,
    stepping,
    deciding: decided.ms / 1000,
    changing: extra,
    compiling: cold,
    validating: watching,
    total: stepping + extra + watching,
    flops,
    warmUp,
    curve,
    test,
  };
}
