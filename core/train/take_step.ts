/**
 * Takes a step: from a state and a batch to the next state.
 *
 * @module
 */

import { InputError, NonFiniteError } from "../errors.ts";
import { consume, free, resident, storageOf } from "../runtime/residents.ts";
import type { Tensor } from "../tensor.ts";
import { flatten, type Leaves, type TensorTree, type Tree, unflatten, withLeaves } from "../tree.ts";
import { initPolicy } from "./freeze/decisions.ts";
import { checkLeaves } from "./state/leaves.ts";
import { describe, newRun, type Run } from "./state/run.ts";
import { runInfo } from "./state/run_info.ts";
import { afterPass } from "./state/skipped.ts";
import { planAhead } from "./plan_ahead.ts";
import { LOSS } from "./state/specs.ts";
import type { CompiledStep } from "./step/compile.ts";
import type { StepRequest } from "./step/definition.ts";
import type { Executed, Execution } from "./step/executor.ts";
import { type Looked, takeLook, type TakenStep } from "./take_look.ts";
import { leavesFor, neededLeaves, type Trainer, withComponents } from "./trainer.ts";
import type { TrainingState } from "./types.ts";

/** What a step begins with. */
interface Given<P extends TensorTree> {
  readonly state: TrainingState<P>;
  /** Its parameters by path. */
  readonly params: Leaves;
  /** Batches. */
  readonly parts: readonly TensorTree[];
}

/**
 * Takes a step. The state is consumed: its buffers hold the next one. A batch without labels changes no weight and no moment,
 * and its readings are absent.
 *
 * @param trainer The training
 * @param options The state, not consumed, its parameters, and the batch
 * @returns The next state
 */
export async function takeStep<P extends TensorTree>(
  trainer: Trainer<P>,
  { state, params, parts }: Given<P>,
): Promise<TrainingState<P>> {
  const { gpu, policy, compiler, executor, runs } = trainer;
  const { accumulate: most } = trainer.definition, { counted, batches } = weighParts(trainer, parts);
  const step = state.step + 1, batch = batches[0].batch;
  const begun = withComponents(trainer, { run: runs.runOf(state) ?? newRun(params), batch });
  const leaves = leavesOf(trainer, { state, params, run: begun });
  const info = begun.info ?? await runInfo(trainer, { counted, batches });
  const run: Run = begun.checked ? begun : { ...begun, info, checked: true };
  const { components, owner } = run, { frozen, probed, since, skipped, wide } = state;
  const policyState = state.step === 0 ? initPolicy(policy, { components, run: info }) : state.policy;
  checkGoesOn(trainer, { state, run });
  const { good, definition: { nonFinite } } = trainer;
  if (nonFinite === "rollback" && !good.has(owner)) good.keep(owner, { ...state, leaves });
  const request = { run, batch, frozen, probed, since, skipped, wide };
  trainer.last.request = request;
  const waiting = compiler.choose(request);
  if (waiting !== null) await waiting;
  const compiled = planned(trainer, request);
  // A software adapter runs on this CPU, which is busy.
  const idle = (state.look !== null || (state.exchange?.waitedMs ?? 0) > 0) && !gpu.software;
  const { moved, passed, ...measured } = counted === 0 && trainer.definition.ranks === null
    ? await executor.pass({ compiled, leaves, step })
    : await executed(trainer, {
      execution: { compiled, params, leaves, batch, parts: batches, most, step, idle, owner },
      changed: state.event !== null,
    });

  const renew = (tensor: Tensor): Tensor => {
    const { buffer, label } = storageOf(tensor);
    consume(tensor, step);
    return resident(tensor, { buffer: moved.get(buffer) ?? buffer, label, producedAt: step });
  };
  const nextParams = new Map(
    [...params].map(([path, t]) => [path, compiled.replaced.has(path) ? renew(t) : t]),
  );
  const nextLeaves = new Map([...leaves].map(([path, t]) => [path, renew(t)]));
  const counts = { skipped: passed ? afterPass(skipped) : skipped, step };
  const taken = { request, compiled, params: nextParams, leaves: nextLeaves, policyState, ...counts };
  const isLook = step % trainer.definition.lookEvery === 0 || step === trainer.steps;
  const averaged = await trainer.definition.averages?.after({
    ...taken,
    exchanges: state.exchanges,
    active: trainer.activePaths(run, frozen),
    // What a policy decides by, and what is validated, is the same on all ranks.
    judged: isLook && (policy !== undefined || trainer.validator?.due(step, state.validation)),
    last: step === trainer.steps,
  });
  if (averaged?.exchanges !== state.exchanges) executor.renewWeights();
  let after: Looked<P>;
  try {
    if (isLook) planAhead(trainer, { state, taken });
    after = isLook ? await takeLook(trainer, { state, taken }) : withoutLook(state, taken);
  } catch (error) {
    const back = nonFinite === "rollback" && error instanceof NonFiniteError
      ? rollBack(trainer, { run, taken, error })
      : null;
    if (back !== null) return back;
    // Nobody can reach what the step wrote.
    const written = [...nextParams].filter(([path]) => compiled.replaced.has(path));
    for (const made of [written, nextLeaves]) free(Object.fromEntries(made));
    throw error;
  }
  const next = runs.register<TrainingState<P>>({
    settings: state.settings,
    step,
    params: withLeaves(state.params, nextParams) as TensorTree as P,
    loss: after.leaves.get(LOSS)!,
    ...measured,
    chosen: compiler.chosen(),
    ...averaged,
    done: after.ending !== null,
    ...after,
  }, run);
  if (isLook && nonFinite === "rollback") trainer.good.keep(owner, next);
  return next;
}

/** The plan of a step. The first plan of a run is timed, as a change of the frozen set makes another one. */
function planned<P extends TensorTree>(
  { compiler, clock, last }: Trainer<P>,
  request: StepRequest,
): CompiledStep {
  const { owner } = request.run, plan = (): CompiledStep => compiler.compile(request);
  const compiled = clock.change(owner) === null ? clock.changing(owner, "first", plan) : plan();
  last.memory = compiled.memory;
  return compiled;
}

/** Takes a step on the device. The first one of another frozen set records it, which is timed. */
function executed<P extends TensorTree>(
  { executor, clock }: Trainer<P>,
  { execution, changed }: { readonly execution: Execution; readonly changed: boolean },
): Promise<Executed> {
  const execute = (): Promise<Executed> => executor.execute(execution);
  return changed ? clock.changing(execution.owner, "more", execute) : execute();
}

/** Goes back to the last good state: its values are copied into the buffers of the step that was taken. */
function rollBack<P extends TensorTree>(
  { good, runs }: Trainer<P>,
  { run, taken: { params, leaves, step }, error }: {
    readonly run: Run;
    readonly taken: TakenStep;
    readonly error: NonFiniteError;
  },
): TrainingState<P> | null {
  const state = good.restore(run.owner, { params, leaves });
  if (state === null) return null;
  return runs.register({
    ...state,
    params: unflatten(params) as TensorTree as P,
    leaves,
    loss: leaves.get(LOSS)!,
    look: null,
    event: null,
    rolledBack: { from: step, why: error.message },
  }, run);
}

/**
 * The parts of a step that have labels, each with their number; one without where none has.
 *
 * @throws {InputError} When there are none or too many, or their shapes differ
 */
function weighParts<P extends TensorTree>(
  { definition: { count, accumulate } }: Trainer<P>,
  parts: readonly TensorTree[],
): {
  readonly counted: number;
  readonly batches: readonly { readonly batch: Leaves; readonly labels: number }[];
} {
  if (parts.length === 0 || parts.length > accumulate) {
    throw new InputError(
      `Cannot take a step of ${parts.length} batches as "accumulate" is ${accumulate}: give from 1 to ${accumulate}, or another "accumulate"`,
    );
  }
  const all = parts.map((part) => ({ batch: flatten(part), labels: count(part as Tree) }));
  const labelled = all.filter(({ labels }) => labels > 0),
    used = labelled.length === 0 ? all.slice(0, 1) : labelled;
  const counted = used.reduce((n, { labels }) => n + labels, 0),
    shapes = used.map(({ batch }) => describe(batch));
  const odd = shapes.findIndex((text) => text !== shapes[0]);
  if (odd > 0) {
    throw new InputError(
      `Cannot accumulate batches as those of a step must have equal shapes: "${shapes[0]}" and "${
        shapes[odd]
      }"; pad them`,
    );
  }
  return { counted, batches: used };
}

/** The state after a step without a look: the policy decides nothing. */
function withoutLook<P extends TensorTree>(
  { frozen, probed, since, wide, validation, best, ending }: TrainingState<P>,
  { step, leaves, skipped, policyState }: TakenStep,
): Looked<P> {
  const unchanged = {
    frozen,
    probed,
    since,
    skipped,
    wide,
    validation,
    best,
    ending: ending && { ...ending, step },
  };
  return { ...unchanged, policy: policyState, leaves, look: null, event: null };
}

/** The leaves of a step. The first step adds those of readings; leaves of a resumed run are checked. */
function leavesOf<P extends TensorTree>(
  trainer: Trainer<P>,
  { state, params, run }: {
    readonly state: TrainingState<P>;
    readonly params: Leaves;
    readonly run: Run;
  },
): Leaves {
  const { step, leaves, frozen } = state;
  const needed = step === 0
    ? trainer.runs.firstLeaves(
      state,
      () => leavesFor(trainer, { run, frozen, leaves, params, step }),
    )
    : leaves;
  if (!run.checked) checkLeaves(neededLeaves(trainer, { run, frozen, leaves: needed }), needed);
  return needed;
}

/**
 * Refuses a step after the end of training.
 *
 * @throws {InputError} When everything is frozen, the policy stopped, or the parameters are those of an earlier step
 */
function checkGoesOn<P extends TensorTree>(
  trainer: Trainer<P>,
  { state, run }: { readonly state: TrainingState<P>; readonly run: Run },
): void {
  const { ending, frozen } = state, step = state.step + 1;
  if (trainer.activePaths(run, frozen).length === 0) {
    throw new InputError(
      `Cannot take step ${step} as all components are frozen: stop when state.done is true`,
    );
  }
  if (ending === null || (ending.reason !== "stopped" && ending.best === null)) return;
  const [who, how] = ending.reason === "stopped"
    ? ["the policy ended training", ""]
    : ["training ended", ` with the parameters of step ${ending.best}`];
  throw new InputError(
    `Cannot take step ${step} as ${who} after step ${ending.step}${how}: stop when state.done is true`,
  );
}
