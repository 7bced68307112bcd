/**
 * Trainings that runs share: what is planned once serves all rates and seeds, as long as they train the same by no policy.
 *
 * A policy plans each set that it freezes, which is what it costs: its runs share nothing.
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  cosine,
  defineTraining,
  type Gpu,
  type Precision,
  type Training,
} from "@firn/train";
import type { StudyBatch } from "./study_data.ts";
import type { Subject } from "./study_models.ts";
import { type PlannedRun, plannedSteps, type StudyLength, WARMUP, WEIGHT_DECAY } from "./study_plan.ts";
import { freezingOf } from "./study_policies.ts";

/** A training, and what a run of it uses. */
export interface SharedTraining {
  readonly training: Training<object, StudyBatch>;
  /** The rate by step of the run that is being made. */
  readonly schedule: { of: (step: number) => number };
  /** Bytes that it keeps between two runs. */
  held: number;
}

/** A training for a run. */
export interface OpenTraining extends SharedTraining {
  /** Steps that the run plans. The training may plan more. */
  readonly planned: number;
  /** Components that are never trained. */
  readonly never: number;
  readonly policy: string | null;
  /** Ends the run: frees the training unless runs share it. One that failed is not used again. */
  close(options: { readonly whole: boolean; readonly held: number }): void;
}

/** Most trainings that a task keeps: their buffers stay on the device. */
const MOST = 4;

/**
 * The training of a run.
 *
 * @param lab Device and lengths, those of the task
 * @param options The run, its task, and the threshold of GradES
 * @returns It; the caller closes it
 */
export function openTraining(
  lab: StudyLength & { readonly gpu: Gpu; readonly precision: Precision },
  { subject, run, tau }: { readonly subject: Subject; readonly run: PlannedRun; readonly tau: number | null },
): OpenTraining {
  const planned = plannedSteps(run.arm, lab), { loss, parameters, trainings } = subject;
  const { policy, trains, never, cached } = freezingOf(run, { parameters, tau, steps: planned });
  const trainable = (path: string): boolean => (loss.trainable?.(path) ?? true) && trains(path);
  const key = [lab.steps, cached, ...[...parameters.keys()].filter(trainable)].join();
  const schedule: SharedTraining["schedule"] = { of: () => 0 };
  const make = (): SharedTraining => ({
    held: 0,
    schedule,
    training: defineTraining(lab.gpu, loss, {
      optimizer: chain(
        clipByGlobalNorm(1),
        adamW({ learningRate: (step) => schedule.of(step), weightDecay: WEIGHT_DECAY }),
      ),
      ...policy !== null && { policy },
      trainable,
      steps: policy === null ? lab.steps : planned,
      lookEvery: lab.look,
      precision: lab.precision,
      ...cached && { cachePrefix: true },
    }),
  });
  const shared = policy === null ? trainings.get(key) ?? make() : make();
  // The one that was used last is kept longest.
  trainings.delete(key);
  shared.schedule.of = cosine({ peak: run.rate, warmup: Math.ceil(WARMUP * planned), steps: planned });
  return {
    ...shared,
    planned,
    never,
    policy: policy?.name ?? (never > 0 ? `never ${never}` : null),
    close({ whole, held }) {
      if (policy !== null || !whole) return shared.training[Symbol.dispose]();
      shared.held = held;
      trainings.set(key, shared);
      if (trainings.size <= MOST) return;
      const [oldest, { training }] = trainings.entries().next().value!;
      training[Symbol.dispose]();
      trainings.delete(oldest);
    },
  };
}
