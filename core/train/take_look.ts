/**
 * Takes a look after a step: reads the signals, asks the policy, and changes the frozen set.
 *
 * @module
 */

import { NonFiniteError } from "../errors.ts";
import type { Json, Look } from "../policy.ts";
import { firstBeyond, sourceOfNonFinite } from "../infer/non_finite.ts";
import { checkAllocations } from "../runtime/buffers.ts";
import { isReadable } from "../runtime/residents.ts";
import { type Leaves, type TensorTree, unflatten } from "../tree.ts";
import { checkBest, decide, type Decision, freezeChange, NO_COST, NO_DECISION } from "./freeze/decisions.ts";
import { type NonFiniteReading, readLook } from "./freeze/look.ts";
import { thawStepsAfter } from "./freeze/thaw.ts";
import { keepBestWeights, restoreBestWeights } from "./state/best_weights.ts";
import { withWeights } from "./state/weights.ts";
import { afterLook, afterThaw } from "./state/skipped.ts";
import { RING } from "./state/specs.ts";
import type { LookOfRanks } from "./parameter_exchange.ts";
import type { CompiledStep } from "./step/compile.ts";
import { judges, type StepRequest } from "./step/definition.ts";
import { leavesFor, reasonToEnd, type Trainer } from "./trainer.ts";
import type { SkippedSteps } from "./skipped_steps.ts";
import type { Ending, FreezeEvent, ThawSteps, TrainingState, Validation } from "./types.ts";

const LARGEST_F16 = 65504;

/** A step that was taken. */
export interface TakenStep {
  readonly request: StepRequest;
  readonly compiled: CompiledStep;
  readonly step: number;
  /** Parameters after the step. */
  readonly params: Leaves;
  /** Steps that updated nothing, as far as the host knows before the look. */
  readonly skipped: SkippedSteps;
  /** Other state after the step. */
  readonly leaves: Leaves;
  readonly policyState: Json;
}

/** The parts of a state that a look decides about. */
export type Looked<P extends TensorTree> = Pick<
  TrainingState<P>,
  | "leaves"
  | "policy"
  | "frozen"
  | "probed"
  | "since"
  | "skipped"
  | "wide"
  | "look"
  | "event"
  | "validation"
  | "best"
  | "ending"
>;

/**
 * Reads the steps since the last look, and does what the policy decides.
 *
 * @param trainer The training
 * @param options The state before the step, and the step
 * @returns What becomes of the state
 * @throws {NonFiniteError} When a loss or a gradient is not finite; it names the first step
 * @throws {InputError} When the policy names what is no component, or calls a step the best whose parameters were not kept
 */
export async function takeLook<P extends TensorTree>(
  trainer: Trainer<P>,
  { state, taken }: { readonly state: TrainingState<P>; readonly taken: TakenStep },
): Promise<Looked<P>> {
  const { gpu, policy } = trainer, { request: { run }, step, params } = taken;
  const { look, validation, wide, skipped: seen } = await readings(trainer, { state, taken });
  const decision: Decision = policy === undefined
    ? { ...NO_DECISION, frozen: state.frozen, probed: state.probed }
    : decide(policy, { state: taken.policyState, look, ...run });
  const { best, probed, policy: policyState } = decision;
  checkBest(best, { step, kept: state.best, policy: policy?.name ?? "" });
  const { event, frozen, since, skipped, reason } = changeFrozenSet(trainer, {
    state,
    taken,
    decision,
    skipped: seen,
  });
  let leaves = event === null
    ? taken.leaves
    : leavesFor(trainer, { run, frozen, leaves: taken.leaves, params, step });
  // Weights that are averages of the parameters are copied into them at the end.
  const averaged = best === step && trainer.definition.optimizer.evaluated !== undefined;
  const moving = reason === null || averaged ? trainer.activePaths(run, frozen) : [];
  if (best === step) {
    const source = { optimizer: trainer.definition.optimizer, params, leaves };
    leaves = await withWeights(gpu, source, async (weights) => {
      const kept = keepBestWeights(gpu, { leaves, params: weights, step, best, moving });
      await checkAllocations(gpu);
      return kept;
    });
  } else leaves = keepBestWeights(gpu, { leaves, params, step, best, moving });
  if (reason !== null) leaves = restoreBestWeights(gpu, { leaves, params });
  trainer.clock.begin(run.owner, step);
  const ending = reason === null ? null : { reason, step, best };
  return {
    leaves,
    policy: policyState,
    frozen,
    probed,
    since,
    skipped,
    wide,
    look,
    event,
    validation,
    best,
    ending,
  };
}

/** Reads the ring, and validates when that is due. */
async function readings<P extends TensorTree>(
  trainer: Trainer<P>,
  { state, taken }: { readonly state: TrainingState<P>; readonly taken: TakenStep },
): Promise<
  {
    readonly look: Look;
    readonly validation: Validation | null;
    readonly wide: boolean;
    readonly skipped: SkippedSteps;
  }
> {
  const { gpu, definition, validator } = trainer, { request: { run: { owner } }, step, params } = taken;
  let skipped = taken.skipped;
  const own = async (): Promise<LookOfRanks> => {
    const { leftOut, ...look } = await ownLook(trainer, { state, taken });
    // What each rank skips is its own: so are the ages of its parameters.
    if (judges(definition)) skipped = afterLook(skipped, { step, leftOut });
    return look;
  };
  const { look: read, wide } = await (definition.averages === null ? own() : definition.averages.look(own));
  trainer.given.delete(owner);
  // Ranks must decide alike.
  const [stepMs, changeMs] = definition.together === null
    ? [trainer.clock.since(owner, step), trainer.clock.change(owner)]
    : [null, null];
  const look: Look = {
    ...read,
    ...Object.keys(state.since).length > 0 && { thawed: state.since },
    ...stepMs !== null && { stepMs, ...changeMs !== null && { changeMs } },
  };
  if (validator === null) return { look, validation: state.validation, wide, skipped };
  const due = validator.due(step, state.validation);
  const source = { optimizer: definition.optimizer, params, leaves: taken.leaves };
  const validation = due
    ? await withWeights(
      gpu,
      source,
      (weights, own) =>
        validator.validate({ step, params: unflatten(weights) as TensorTree as P, owner: own ? {} : owner }),
    )
    : state.validation;
  const losses = look.steps.map((s) => due && s === step ? validation!.loss : NaN);
  return { look: { ...look, validation: losses }, validation, wide, skipped };
}

/** Reads the ring of this process, and refuses what is not finite. */
async function ownLook<P extends TensorTree>(
  trainer: Trainer<P>,
  { state, taken }: { readonly state: TrainingState<P>; readonly taken: TakenStep },
): Promise<LookOfRanks & { readonly leftOut: readonly number[] }> {
  const { gpu, definition } = trainer, { signals, optimizer: { learningRate }, precision } = definition;
  const { request: { run: { components, owner } }, compiled, step } = taken;
  const { look, nonFinite, leftOut, isSkipped } = await readLook(gpu, taken.leaves.get(RING)!, {
    step,
    columns: compiled.columns,
    components,
    signals,
    learningRate,
    precision,
    skips: definition.nonFinite === "skip",
    metrics: definition.metrics?.names,
    clips: definition.optimizer.clips,
  });
  if (nonFinite !== null && !await isBeyondF16(trainer, { state, taken, nonFinite })) {
    throw await errorOf(trainer, { nonFinite, owner });
  }
  // With f16 the loss of a skipped step may have been too large for it, which f32 mends.
  return { look, leftOut, wide: state.wide || nonFinite !== null || isSkipped && precision === "f16" };
}

/**
 * Whether a loss is not finite as a value of the forward pass was too large for f16. Such a step changed nothing, and later ones
 * store what may be so large as f32.
 *
 * @throws {NonFiniteError} When a parameter is too large, which products read as f16
 */
async function isBeyondF16<P extends TensorTree>(
  { gpu, definition: { precision } }: Trainer<P>,
  { state, taken, nonFinite: { what, step, value } }: {
    readonly state: TrainingState<P>;
    readonly taken: TakenStep;
    readonly nonFinite: NonFiniteReading;
  },
): Promise<boolean> {
  if (precision !== "f16" || state.wide || what !== "loss") return false;
  const found = await firstBeyond(gpu, taken.params, LARGEST_F16);
  if (found === null) return true;
  if (!Number.isFinite(found.value)) return false;
  const mend =
    `element ${found.index} of the parameter "${found.path}" is ${found.value}, and the largest f16 is ` +
    `${LARGEST_F16}; train with precision "f32"`;
  throw new NonFiniteError(what, step, value, { mend });
}

/** Names the tensor that a number comes from, where no weight had changed. */
async function errorOf<P extends TensorTree>(
  { gpu, given }: Trainer<P>,
  { nonFinite: { what, step, value }, owner }: {
    readonly nonFinite: NonFiniteReading;
    readonly owner: object;
  },
): Promise<NonFiniteError> {
  if (step > 1) return new NonFiniteError(what, step, value);
  const params = given.get(owner), known = params !== undefined && [...params.values()].every(isReadable);
  const mend = known
    ? await sourceOfNonFinite(gpu, params, "the batch of that step, and at the loss")
    : "no weight had changed; load weights that are finite, or look at the batch of that step";
  return new NonFiniteError(what, step, value, { action: "begin training", mend });
}

/** The frozen set after a look, its plan, and why training ends with it. */
function changeFrozenSet<P extends TensorTree>(
  trainer: Trainer<P>,
  { state, taken, decision, skipped: seen }: {
    readonly state: TrainingState<P>;
    readonly taken: TakenStep;
    readonly decision: Decision;
    readonly skipped: SkippedSteps;
  },
): {
  readonly event: FreezeEvent | null;
  readonly frozen: TrainingState<P>["frozen"];
  readonly since: ThawSteps;
  readonly skipped: SkippedSteps;
  readonly reason: Ending["reason"] | null;
} {
  const { compiler, executor, clock } = trainer, { request, compiled, step } = taken;
  const { run } = request, { probed, stopped } = decision;
  const change = freezeChange(state.frozen, { ...decision, step });
  const { frozen, since } = change === null ? state : {
    frozen: decision.frozen,
    since: thawStepsAfter(state.since, change),
  };
  const skipped = change === null ? seen : afterThaw(seen, { step, since });
  const reason = reasonToEnd(trainer, { run, step, frozen, stopped });
  if (change === null) return { event: null, frozen, since, skipped, reason };
  // After the planned steps a run may be continued with more steps.
  const goesOn = reason === null || reason === "steps";
  const next = goesOn
    ? clock.changing(
      run.owner,
      "first",
      () => compiler.compile({ ...request, frozen, probed, since, skipped }),
    )
    : null;
  const event = { ...change, before: compiled.cost, after: next?.cost ?? NO_COST };
  // No step will be like the last one: what the next one does not need is freed at once.
  if (next === null) executor.forget();
  else executor.prepareFor({ compiled: next, owner: run.owner });
  return { event, frozen, since, skipped, reason };
}
