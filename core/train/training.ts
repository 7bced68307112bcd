/**
 * Training as a reducer: `{ init, next }` with `next: (state, batch) => state`.
 *
 * @module
 */

import { ConsumedError, NonFiniteError } from "../errors.ts";
import { checkAllocations, type Gpu } from "../runtime/device.ts";
import type { Cost } from "../plan/types.ts";
import { consume, resident, storageOf } from "../runtime/residents.ts";
import type { Component, Json, Signal } from "../policy.ts";
import type { Spec, Tensor } from "../tensor.ts";
import { flatten, type Leaves, type Path, unflatten } from "../tree.ts";
import { sinceAfter } from "./freeze/thaw.ts";
import { type Compiled, describe, stepCompiler, type StepRequest } from "./step/compile.ts";
import { findComponents } from "./freeze/components.ts";
import { bestSpecs, keepBest, restoreBest } from "./state/best_weights.ts";
import { begin, checkBest, decide, freezeChange, NO_DECISION, NOTHING } from "./freeze/decisions.ts";
import { adjustLeaves, checkLeaves, withoutReadings } from "./state/leaves.ts";
import { readLook } from "./freeze/look.ts";
import { type Measures, measuresOf } from "./freeze/signals.ts";
import {
  checkMoments,
  checkName,
  checkOptions,
  checkPrecision,
  checkTrained,
  LOOK_EVERY,
  settingsOf,
  THAW_WARMUP,
} from "./options.ts";
import { copyIn, place } from "./state/upload.ts";
import type { Ending, SavedState, TensorTree, Training, TrainingOptions, TrainingState } from "./types.ts";
import { prefixCache } from "./freeze/prefix_cache.ts";
import { profileStep } from "./step/profile_step.ts";
import { replayer } from "./step/replay.ts";
import { validatorOf } from "./step/validation.ts";

/** A step that was taken. */
interface Taken {
  readonly asked: StepRequest;
  readonly plan: Compiled;
  readonly params: Leaves;
  readonly leaves: Leaves;
  readonly policyState: Json;
  /** What the states of one run have in common. */
  readonly token: object;
}

/** Who is frozen, who is measured, who thawed. */
type Freezing = Pick<SavedState, "frozen" | "probed" | "since">;

/** What a look makes of it. */
type Looked<P extends TensorTree> = Pick<
  TrainingState<P>,
  "leaves" | "policy" | "frozen" | "probed" | "since" | "look" | "event" | "validation" | "best" | "ending"
>;

/**
 * Defines training: a loss made of pure ops, an optimizer, a freeze policy.
 *
 * The step is traced once for each frozen set and batch shape, and replayed from then on.
 *
 * @param gpu The device
 * @param loss From parameters and a batch to a scalar
 * @param options Optimizer, policy, length
 * @returns The reducer
 * @throws {RangeError} When a number is out of its range, or validation has no batches, or of different shapes
 * @throws {TypeError} When the precision is f16 and the adapter has no shader-f16, or validation batches differ in names
 * or types
 */
export function defineTraining<P extends TensorTree, B extends TensorTree>(
  gpu: Gpu,
  loss: (params: P, batch: B) => Tensor,
  options: TrainingOptions<B>,
): Training<P, B> {
  checkOptions(options);
  checkPrecision(gpu, options.precision);
  const { optimizer, steps, policy, trainable = () => true, precision = "f32" } = options;
  const { lookEvery = LOOK_EVERY, thawWarmup = THAW_WARMUP } = options;
  const signals: readonly Signal[] = policy?.signals ?? [];
  const run = { steps };
  const { cachePrefix = false } = options;
  const cache = cachePrefix === false ? null : prefixCache(gpu, cachePrefix);
  const replays = replayer(gpu, cache);
  let components: readonly Component[] = [], shapes: Leaves = new Map(), batchSpecs: Leaves = new Map();
  /** A policy that wants readings of some components says so when these are known, from the first batch on. */
  let measures: Measures = () => true;
  const beforeBatch = policy?.measured === undefined ? (leaves: Map<Path, Spec>) => leaves : withoutReadings;
  const owners = new WeakMap<TrainingState<P>, object>();

  /** Names and shapes of the parameters: the same for all states that come from one. */
  const layouts = new WeakMap<object, string>();
  let layout = "";

  function turnTo(params: Leaves, token: object): void {
    shapes = params;
    if (!layouts.has(token)) layouts.set(token, describe(params));
    layout = layouts.get(token)!;
  }

  const compiler = stepCompiler(gpu, loss, {
    optimizer,
    signals,
    measures: (signal, path) => measures(signal, path),
    trainable,
    lookEvery,
    thawWarmup,
    precision,
    cachePrefix: cache !== null,
  });
  const validator = validatorOf(gpu, loss, options);

  /** A step of the current parameters and batch with some components frozen. */
  function request({ frozen, probed = [], since = {} }: Freezing): StepRequest {
    return { params: shapes, batch: batchSpecs, layout, frozen, probed, since };
  }

  /** The same for all steps between two changes of the frozen set. */
  let known: { frozen: readonly Path[]; layout: string; active: readonly Path[] } | null = null;
  function activePaths(frozen: readonly Path[]): readonly Path[] {
    if (known === null || known.frozen !== frozen || known.layout !== layout) {
      known = { frozen, layout, active: compiler.activePaths(shapes, frozen) };
    }
    return known.active;
  }

  /** State leaves that a frozen set leaves, and the best parameters that are kept among some leaves. */
  function wantedOf(leaves: ReadonlyMap<Path, Spec>, frozen: readonly Path[]): Map<Path, Spec> {
    return new Map([...compiler.leafSpecs(shapes, frozen), ...bestSpecs(leaves, shapes)]);
  }

  function adjust(leaves: Leaves, frozen: readonly Path[], step: number): Map<Path, Tensor> {
    return adjustLeaves(gpu, { leaves, wanted: wantedOf(leaves, frozen), step });
  }

  /** Runs whose leaves are known to be those that their steps need. */
  const ready = new WeakSet<object>();

  /** Leaves of first steps: one that failed may be taken again. */
  const begun = new WeakMap<TrainingState<P>, Leaves>();

  /** Leaves of a step: those of readings may be new in the first, and not checked yet in a run that was resumed. */
  function leavesOf(state: TrainingState<P>, token: object): Leaves {
    const { step, leaves, frozen } = state;
    if (step === 0 && !begun.has(state)) begun.set(state, adjust(leaves, frozen, step));
    const needed = begun.get(state) ?? leaves;
    if (!ready.has(token)) checkLeaves(wantedOf(needed, frozen), needed);
    ready.add(token);
    return needed;
  }

  function seal(state: TrainingState<P>, token: object): TrainingState<P> {
    owners.set(state, token);
    return state;
  }

  const settings = settingsOf(options);
  const blank = { settings, loss: null, look: null, event: null, cost: null };

  /** Why training ends after a step, or null. */
  function reasonToEnd(step: number, frozen: readonly Path[], stopped: boolean): Ending["reason"] | null {
    if (stopped) return "stopped";
    if (activePaths(frozen).length === 0) return "frozen";
    return step >= steps ? "steps" : null;
  }

  async function init(params: P): Promise<TrainingState<P>> {
    const given = flatten(params), copies = new Map<Path, Tensor>();
    for (const [path, tensor] of given) {
      checkName(path);
      if (trainable(path)) checkTrained(path, tensor);
    }
    const trained = new Map([...given].filter(([path]) => trainable(path)));
    if (trained.size === 0) {
      throw new RangeError(
        `Cannot train as "trainable" selects none of ${given.size} parameters: the first is "${
          [...given.keys()][0]
        }"`,
      );
    }
    checkMoments({ policy, optimizer }, trained);
    for (const [path, tensor] of given) copies.set(path, await copyIn(gpu, { path, source: tensor }));
    const token = {};
    turnTo(copies, token);
    await checkAllocations(gpu);
    const state = {
      ...blank,
      step: 0,
      params: unflatten(copies) as P,
      leaves: adjustLeaves(gpu, { leaves: new Map(), wanted: beforeBatch(wantedOf(new Map(), [])), step: 0 }),
      policy: null,
      frozen: [],
      probed: [],
      since: {},
      validation: null,
      best: null,
      ending: null,
      chosen: compiler.chosen(),
      done: false,
    };
    return seal(state, token);
  }

  async function resume(saved: SavedState): Promise<TrainingState<P>> {
    const { step, policy, frozen, probed = [], since = {}, validation = null, best = null } = saved;
    if (saved.settings !== settings) {
      throw new TypeError(
        `Cannot resume as the training must be that of the saved run: it is "${settings}", that was "${saved.settings}"`,
      );
    }
    for (const [path, value] of saved.params) if (trainable(path)) checkTrained(path, value);
    const params = new Map(
      [...saved.params].map(([path, value]) => [path, place(gpu, { path, value, step })]),
    );
    const token = {};
    turnTo(params, token);
    const reason = reasonToEnd(step, frozen, false);
    const ending = saved.ending ?? (reason === null ? null : { reason, step, best: null });
    const copied = best === null || ending !== null ? [] : activePaths(frozen);
    const wanted = [
      ...wantedOf(saved.leaves, frozen),
      ...copied.map((path) => [`best.${path}`, params.get(path)!] as const),
    ];
    checkLeaves(beforeBatch(new Map(wanted)), beforeBatch(new Map(saved.leaves)));
    const leaves = new Map(
      [...saved.leaves].map(([path, value]) => [path, place(gpu, { path, value, step })]),
    );
    if (saved.chosen !== undefined) {
      compiler.adopt(saved.chosen);
      replays.forget();
    }
    await checkAllocations(gpu);
    const chosen = saved.chosen ?? compiler.chosen(), done = ending !== null;
    const decided = { policy, frozen, probed, since, validation, best, ending, chosen, done };
    return seal({ ...blank, step, ...decided, leaves, params: unflatten(params) as P }, token);
  }

  /** States whose step is being taken. */
  const underWay = new WeakSet<TrainingState<P>>();

  async function next(state: TrainingState<P>, batch: B): Promise<TrainingState<P>> {
    for (const tensor of flatten(state.params).values()) storageOf(tensor);
    if (underWay.has(state)) throw new ConsumedError(state.step, state.step + 1);
    underWay.add(state);
    try {
      return await take(state, batch);
    } finally {
      underWay.delete(state);
    }
  }

  async function take(state: TrainingState<P>, batch: B): Promise<TrainingState<P>> {
    const step = state.step + 1;
    const params = flatten(state.params);
    const token = owners.get(state) ?? {};
    turnTo(params, token);
    const given = flatten(batch);
    batchSpecs = given;
    if (components.length === 0) {
      const traced = compiler.trace(request({ frozen: [] }));
      const found = findComponents(traced.loss, { leaves: traced.leaves, trainable });
      measures = measuresOf(policy, found);
      components = found;
    }
    const leaves = leavesOf(state, token);
    const policyState = state.step === 0 ? begin(policy, { components, run }) : state.policy;
    const active = activePaths(state.frozen);
    if (active.length === 0) {
      throw new RangeError(
        `Cannot take step ${step} as all ${components.length} components are frozen: stop when state.done is true`,
      );
    }
    const { ending } = state;
    if (ending !== null && (ending.reason === "stopped" || ending.best !== null)) {
      const [who, how] = ending.reason === "stopped"
        ? ["the policy ended training", ""]
        : ["training ended", ` with the parameters of step ${ending.best}`];
      throw new RangeError(
        `Cannot take step ${step} as ${who} after step ${ending.step}${how}: stop when state.done is true`,
      );
    }
    const asked = request(state);
    const waiting = compiler.choose(asked);
    if (waiting !== null) {
      await waiting;
      // A step of another state may have been taken meanwhile.
      turnTo(params, token);
      batchSpecs = given;
    }
    const plan = compiler.compile(asked);
    // A software adapter works on this very CPU.
    const idle = state.look !== null && !gpu.software;
    const { cost, moved } = await replays.replay({
      plan,
      params,
      leaves,
      batch: given,
      step,
      idle,
      owner: token,
    });

    const renew = (tensor: Tensor): Tensor => {
      const { buffer, label } = storageOf(tensor);
      consume(tensor, step);
      return resident(tensor, { buffer: moved.get(buffer) ?? buffer, label, producedAt: step });
    };
    const nextParams = new Map(
      [...params].map(([path, t]) => [path, plan.replaced.has(path) ? renew(t) : t]),
    );
    const nextLeaves = new Map([...leaves].map(([path, t]) => [path, renew(t)]));

    const unchanged = { policy: policyState, leaves: nextLeaves, look: null, event: null };
    const { frozen, probed, since, validation, best } = state;
    const after = step % lookEvery === 0 || step === steps
      ? await lookAt(state, { asked, plan, params: nextParams, leaves: nextLeaves, policyState, token })
      : { ...unchanged, frozen, probed, since, validation, best, ending: ending && { ...ending, step } };
    return seal({
      settings,
      step,
      params: unflatten(nextParams) as P,
      loss: after.leaves.get("loss")!,
      cost,
      chosen: compiler.chosen(),
      done: after.ending !== null,
      ...after,
    }, token);
  }

  /** Reads the steps since the last look, and does what the policy decides. */
  async function lookAt(state: TrainingState<P>, taken: Taken): Promise<Looked<P>> {
    const { asked, plan, params, token } = taken, step = state.step + 1;
    const readings = await readLook(gpu, taken.leaves.get("ring")!, {
      step,
      columns: plan.columns,
      components,
      signals,
      learningRate: optimizer.learningRate,
      precision,
    });
    const bad = readings.loss.findIndex((l) => !Number.isFinite(l));
    if (bad >= 0) throw new NonFiniteError("loss", readings.steps[bad], readings.loss[bad]);
    const due = validator?.due(step, state.validation) ?? false;
    const validation = due
      ? await validator!.validate({ step, params: unflatten(params) as P, owner: token })
      : state.validation;
    const losses = readings.steps.map((s) => due && s === step ? validation!.loss : NaN);
    const look = validator === null ? readings : { ...readings, validation: losses };
    // A step of another state may have been taken meanwhile.
    turnTo(params, token);

    const decided = policy === undefined
      ? { ...NO_DECISION, frozen: state.frozen, probed: state.probed }
      : decide(policy, { state: taken.policyState, look, components });
    const { best, probed } = decided;
    checkBest(best, { step, kept: state.best, policy: policy?.name ?? "" });
    const change = freezeChange(state.frozen, { ...decided, step });
    const { frozen, since } = change === null
      ? state
      : { frozen: decided.frozen, since: sinceAfter(state.since, change) };
    const reason = reasonToEnd(step, frozen, decided.stopped);
    const going = reason === null || reason === "steps";
    const next = change !== null && going ? compiler.compile({ ...asked, frozen, probed, since }) : null;
    const event = change && { ...change, before: plan.plan.cost, after: next?.plan.cost ?? NOTHING };
    // No step is as the last one was: what the next does not need is free at once.
    if (next !== null) replays.turnTo({ plan: next, owner: token });
    else if (change !== null) replays.forget();
    let leaves = change === null ? taken.leaves : adjust(taken.leaves, frozen, step);
    const moving = reason === null ? activePaths(frozen) : [];
    leaves = keepBest(gpu, { leaves, params, step, best, moving });
    if (best === step) await checkAllocations(gpu);
    if (reason !== null) leaves = restoreBest(gpu, { leaves, params });
    const ending = reason === null ? null : { reason, step, best };
    return { leaves, policy: decided.policy, frozen, probed, since, look, event, validation, best, ending };
  }

  function costOf(frozen: readonly Path[], probed: readonly Path[] = []): Cost {
    if (components.length === 0) {
      throw new TypeError("Cannot tell the cost as no step was taken: take one first");
    }
    return compiler.compile(request({ frozen, probed })).plan.cost;
  }

  function dispose(): void {
    replays.dispose();
    validator?.forget();
  }

  return {
    init,
    next,
    resume,
    profile: (state) => profileStep(gpu, { replays, state, owner: owners.get(state) }),
    prefix: () => cache?.state() ?? null,
    components: () => components,
    costOf,
    [Symbol.dispose]: dispose,
  };
}
