/**
 * The first state of a run, from parameters or from a saved state.
 *
 * @module
 */

import { DataError, InputError } from "../errors.ts";
import { checkAllocations } from "../runtime/buffers.ts";
import { isConstant, share } from "../runtime/residents.ts";
import type { Spec } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type Path, type TensorTree, unflatten } from "../tree.ts";
import { readSaved } from "./freeze/decisions.ts";
import { columnsBefore } from "./freeze/ring.ts";
import { checkMoments } from "./freeze/signals.ts";
import { checkTrained } from "./options.ts";
import { checkSettings, settingsOfRun } from "./settings.ts";
import { adjustLeaves, checkLeaves } from "./state/leaves.ts";
import { newRun, type Run } from "./state/run.ts";
import { NONE_SKIPPED } from "./state/skipped.ts";
import { BEST, checkName, JUDGED, OPTIMIZER, RING, type StateSpec, withoutReadings } from "./state/specs.ts";
import { copyToDevice, uploadLeaf } from "./state/upload.ts";
import { judges, type StepDefinition } from "./step/definition.ts";
import { neededLeaves, reasonToEnd, type Trainer } from "./trainer.ts";
import type { HostTensor, ResumeOptions, SavedState, TrainingState } from "./types.ts";

/** What no step has filled in yet. */
const NO_STEP = { loss: null, look: null, event: null, cost: null };

/** Makes the state of step 0: parameters that are trained are copied, others shared with the model where it is on the device. */
export async function initState<P extends TensorTree>(
  trainer: Trainer<P>,
  params: P,
): Promise<TrainingState<P>> {
  const { gpu, definition: { trainable, optimizer } } = trainer;
  const given = flatten(params), copies = new Map<Path, Tensor>();
  for (const [path, tensor] of given) {
    checkName(path);
    if (trainable(path)) checkTrained(path, tensor);
  }
  const trained = new Map([...given].filter(([path]) => trainable(path)));
  if (trained.size === 0) {
    throw new InputError(
      `Cannot train as "trainable" selects no parameter: the first of ${given.size} is "${
        [...given.keys()][0]
      }"`,
    );
  }
  checkMoments(optimizer, trained);
  for (const [path, tensor] of given) {
    const shared = !trained.has(path) && isConstant(tensor);
    copies.set(path, shared ? share(tensor) : await copyToDevice(gpu, { path, source: tensor }));
  }
  const run = newRun(copies), none = new Map<Path, Tensor>();
  trainer.given.set(run.owner, given);
  await checkAllocations(gpu);
  const wanted = beforeFirstBatch(trainer, neededLeaves(trainer, { run, frozen: [], leaves: none }));
  return trainer.runs.register({
    ...NO_STEP,
    settings: settingsOfRun(trainer.settings, given.keys(), trainable),
    step: 0,
    params: unflatten(copies) as TensorTree as P,
    leaves: adjustLeaves(gpu, { leaves: none, wanted, params: copies, step: 0 }),
    policy: null,
    frozen: [],
    probed: [],
    since: {},
    skipped: NONE_SKIPPED,
    wide: false,
    validation: null,
    best: null,
    ending: null,
    chosen: trainer.compiler.chosen(),
    done: false,
  }, run);
}

/** Uploads a saved state. */
export async function resumeState<P extends TensorTree>(
  trainer: Trainer<P>,
  given: SavedState,
  options?: ResumeOptions,
): Promise<TrainingState<P>> {
  const { gpu, definition, compiler, executor } = trainer, { trainable } = definition;
  const run = newRun(given.params, { resumed: true });
  const saved = withClip(trainer, { run, saved: withCount(definition, given) });
  const { step, policy, frozen, probed = [], since = {}, skipped = NONE_SKIPPED, wide = false } = saved;
  const { validation = null, best = null } = saved;
  const settings = settingsOfRun(trainer.settings, saved.params.keys(), trainable);
  for (const [path, value] of saved.params) if (trainable(path)) checkTrained(path, value);
  checkSettings(saved.settings, settings, options);
  checkLength(saved, trainer.steps);
  checkPolicyState(trainer, saved);
  const upload = (
    values: ReadonlyMap<Path, HostTensor>,
    isConstant: (path: Path) => boolean = () => false,
  ): Map<Path, Tensor> =>
    new Map(
      [...values].map((
        [path, value],
      ) => [path, uploadLeaf(gpu, { path, value, step, constant: isConstant(path) })]),
    );
  const params = upload(saved.params, (path) => !trainable(path));
  const reason = reasonToEnd(trainer, { run, step, frozen, stopped: false });
  const ending = saved.ending ?? (reason === null ? null : { reason, step, best: null });
  checkSavedLeaves(trainer, { run, saved, done: ending !== null });
  const leaves = upload(saved.leaves);
  if (saved.chosen !== undefined) {
    compiler.adopt(saved.chosen);
    executor.forget();
  }
  await checkAllocations(gpu);
  const moved = saved.chosen !== undefined && saved.chosen.adapter !== gpu.name;
  return trainer.runs.register({
    ...NO_STEP,
    settings,
    step,
    params: unflatten(params) as TensorTree as P,
    leaves,
    policy,
    frozen,
    probed,
    since,
    skipped,
    wide,
    validation,
    best,
    ending,
    chosen: saved.chosen ?? compiler.chosen(),
    ...moved && { movedFrom: saved.chosen!.adapter },
    ...saved.exchanges !== undefined && { exchanges: saved.exchanges },
    done: ending !== null,
  }, run);
}

/** A saved state with the count of the steps that the device leaves out, where it does: earlier versions and others have none. */
function withCount(definition: StepDefinition, saved: SavedState): SavedState {
  const leaves = new Map([...saved.leaves].filter(([path]) => path !== JUDGED));
  const none: HostTensor = { shape: [], dtype: "f32", data: new Float32Array(1) };
  if (judges(definition)) leaves.set(JUDGED, saved.leaves.get(JUDGED) ?? none);
  return { ...saved, leaves };
}

/** A saved state with a column for what clips gradients: earlier versions have none, and its readings are absent. */
function withClip<P extends TensorTree>(
  trainer: Trainer<P>,
  { run, saved }: { readonly run: Run; readonly saved: SavedState },
): SavedState {
  const { definition: { optimizer, precision, metrics }, policy } = trainer,
    { settings, frozen, leaves } = saved;
  const ring = leaves.get(RING);
  if (ring === undefined || !optimizer.clips) return saved;
  const [rows, width] = ring.shape, at = columnsBefore(precision) + (metrics?.names.length ?? 0);
  // What a policy measures of some components is known later.
  const isEarlier = policy?.measured === undefined
    ? neededLeaves(trainer, { run, frozen, leaves }).get(RING)!.shape[1] === width + 1
    : typeof settings === "string" || !settings.clips;
  if (!isEarlier) return saved;
  const data = new Float32Array(rows * (width + 1)).fill(NaN);
  ring.data.forEach((value, i) => {
    const column = i % width;
    data[Math.floor(i / width) * (width + 1) + column + (column < at ? 0 : 1)] = value;
  });
  return {
    ...saved,
    leaves: new Map([...saved.leaves, [RING, { ...ring, shape: [rows, width + 1], data }]]),
  };
}

/** Refuses a step that does not fit the planned steps and the ending. */
function checkLength({ step, ending }: SavedState, steps: number): void {
  const early = ending?.reason === "steps" && step < steps, late = ending === null && step >= steps;
  if (!early && !late) return;
  throw new DataError(
    `Cannot resume from step ${step} as the run has ${steps} steps: the saved state says that it ${
      early ? "ended by them" : "goes on"
    }; use another checkpoint`,
  );
}

/** Refuses a policy state that its policy cannot read. */
function checkPolicyState<P extends TensorTree>(
  { policy }: Pick<Trainer<P>, "policy">,
  saved: SavedState,
): void {
  if (policy === undefined || saved.step === 0) return;
  readSaved(policy, () => {
    policy.frozen(saved.policy);
    policy.probed?.(saved.policy);
    policy.best?.(saved.policy);
  });
}

function checkSavedLeaves<P extends TensorTree>(
  trainer: Trainer<P>,
  { run, saved, done }: { readonly run: Run; readonly saved: SavedState; readonly done: boolean },
): void {
  const { frozen, leaves, best = null } = saved;
  const copied = best === null || done ? [] : trainer.activePaths(run, frozen);
  const wanted = new Map<Path, Spec>([
    ...neededLeaves(trainer, { run, frozen, leaves }),
    ...copied.map((path) => [BEST + path, run.params.get(path)!] as const),
  ]);
  const more = done
    ? undefined
    : [...leaves.keys()].find((path) => path.startsWith(OPTIMIZER) && !wanted.has(path));
  if (more !== undefined) {
    throw new InputError(
      `Cannot resume as the training must train the parameters of the saved run: it does not use "${more}"; ` +
        'give the same "trainable"',
    );
  }
  checkLeaves(beforeFirstBatch(trainer, wanted), beforeFirstBatch(trainer, leaves));
}

/** Specs without readings, when the policy says what to measure only once it knows the components. */
function beforeFirstBatch<S extends StateSpec>(
  { policy }: Pick<Trainer<TensorTree>, "policy">,
  specs: ReadonlyMap<Path, S>,
): ReadonlyMap<Path, S> {
  return policy?.measured === undefined ? specs : withoutReadings(specs);
}
