/**
 * Training as a reducer: `{ init, next }` with `next: (state, batch) => state`.
 *
 * @module
 */

import { ConsumedError, NonFiniteError } from "../errors.ts";
import { checkAllocations, createBuffer, type Gpu, writeValues } from "../gpu/device.ts";
import { bytesOf, type Cost } from "../gpu/plan.ts";
import { consume, resident, storageOf } from "../gpu/resident.ts";
import { type KernelTime, profile } from "../gpu/profile.ts";
import { record, type Recording } from "../gpu/run.ts";
import type { Component, Json, Look, Signal } from "../policy.ts";
import { hostValues, type Spec, type Tensor } from "../tensor.ts";
import { flatten, type Leaves, type Path, unflatten } from "../tree.ts";
import { sinceAfter } from "./ages.ts";
import { describe, stepCompiler, type StepRequest } from "./compile.ts";
import { findComponents } from "./components.ts";
import { undone } from "./checkpoint.ts";
import { freezeChange, NOTHING } from "./freeze.ts";
import { adjustLeaves, checkLeaves } from "./leaves.ts";
import { readLook } from "./look.ts";
import { copyIn, place } from "./place.ts";
import type {
  FreezeEvent,
  SavedState,
  Since,
  TensorTree,
  Training,
  TrainingOptions,
  TrainingState,
} from "./state.ts";
import { stateSpecs } from "./trace.ts";

/** Paths of what is no parameter. */
const RESERVED = /^(loss|ring|(batch|optimizer|previous)(\..*)?)$/;

/**
 * Defines training: a loss made of pure ops, an optimizer, a freeze policy.
 *
 * The step is traced once for each frozen set and batch shape, and replayed from then on.
 *
 * @param gpu The device
 * @param loss From parameters and a batch to a scalar
 * @param options Optimizer, policy, length
 * @returns The reducer
 */
export function defineTraining<P extends TensorTree, B extends TensorTree>(
  gpu: Gpu,
  loss: (params: P, batch: B) => Tensor,
  options: TrainingOptions,
): Training<P, B> {
  const { optimizer, steps, policy, trainable = () => true, lookEvery = 10, thawWarmup = 10 } = options;
  if (!(Number.isInteger(steps) && steps >= 1)) {
    throw new RangeError(`Cannot train for ${steps} steps as "steps" must be a whole number above 0`);
  }
  if (!(Number.isInteger(lookEvery) && lookEvery >= 1)) {
    throw new RangeError(
      `Cannot look every ${lookEvery} steps as "lookEvery" must be a whole number above 0`,
    );
  }
  if (!(Number.isInteger(thawWarmup) && thawWarmup >= 0)) {
    throw new RangeError(
      `Cannot warm up for ${thawWarmup} steps as "thawWarmup" must be a whole number, 0 or more`,
    );
  }
  const signals: readonly Signal[] = policy?.signals ?? [];
  const run = { steps };
  const inputs = new Map<string, GPUBuffer>();
  let components: readonly Component[] = [],
    current: { key: string; recording: Recording } | null = null;
  let owner: object | null = null, shapes: Leaves = new Map(), batchSpecs: Leaves = new Map();
  const owners = new WeakMap<TrainingState<P>, object>();

  /** Names and shapes of the parameters: the same for all states that come from one. */
  const layouts = new WeakMap<object, string>();
  let layout = "";

  function turnTo(params: Leaves, token: object): void {
    shapes = params;
    if (!layouts.has(token)) layouts.set(token, describe(params));
    layout = layouts.get(token)!;
  }

  const compiler = stepCompiler(gpu, loss, { optimizer, signals, trainable, lookEvery, thawWarmup });

  /** A step of the current parameters and batch with some components frozen. */
  function request({ frozen, since = {} }: { frozen: readonly Path[]; since?: Since }): StepRequest {
    return { params: shapes, batch: batchSpecs, layout, frozen, since };
  }

  function activePaths(frozen: readonly Path[]): Path[] {
    return compiler.activePaths(shapes, frozen);
  }

  /** State leaves that a frozen set leaves. */
  function leafSpecs(frozen: readonly Path[]): Map<Path, Spec> {
    const active = new Map(activePaths(frozen).map((path) => [path, shapes.get(path)!]));
    return new Map<Path, Spec>([
      ...stateSpecs(active, { optimizer, signals }),
      ["ring", { shape: compiler.ringShape(shapes), dtype: "f32" }],
      ["loss", { shape: [], dtype: "f32" }],
    ]);
  }

  function adjust(leaves: Leaves, frozen: readonly Path[], step: number): Map<Path, Tensor> {
    return adjustLeaves(gpu, { leaves, wanted: leafSpecs(frozen), step });
  }

  function seal(state: TrainingState<P>, token: object): TrainingState<P> {
    owners.set(state, token);
    return state;
  }

  const settings = [
    optimizer.name,
    policy?.name ?? "no policy",
    `${steps} steps`,
    `a look every ${lookEvery}`,
    ...(thawWarmup === 10 ? [] : [`${thawWarmup} steps of warm-up after a thaw`]),
  ].join(", ");
  const blank = { settings, loss: null, look: null, event: null, cost: null };

  function checkStored(path: Path, { dtype }: Spec): void {
    if (dtype !== "bf16" || !trainable(path)) return;
    throw new TypeError(
      `Cannot train "${path}" as it is stored as bf16, which holds no small changes: ` +
        'train a LoRA adapter, or load the model with storage "f32"',
    );
  }

  async function init(params: P): Promise<TrainingState<P>> {
    const given = flatten(params), copies = new Map<Path, Tensor>();
    for (const [path, tensor] of given) {
      if (RESERVED.test(path)) {
        throw new TypeError(
          `Cannot train "${path}" as training keeps values of its own under that name: rename it`,
        );
      }
      checkStored(path, tensor);
    }
    for (const [path, tensor] of given) copies.set(path, await copyIn(gpu, { path, source: tensor }));
    const token = {};
    turnTo(copies, token);
    if (![...copies.keys()].some(trainable)) {
      throw new RangeError(
        `Cannot train as "trainable" selects none of ${copies.size} parameters: the first is "${
          [...copies.keys()][0]
        }"`,
      );
    }
    await checkAllocations(gpu);
    const state = {
      ...blank,
      step: 0,
      params: unflatten(copies) as P,
      leaves: adjust(new Map(), [], 0),
      policy: null,
      frozen: [],
      since: {},
      chosen: compiler.chosen(),
      done: false,
    };
    return seal(state, token);
  }

  async function resume(saved: SavedState): Promise<TrainingState<P>> {
    const { step, policy, frozen, since = {} } = saved;
    if (saved.settings !== settings) {
      throw new TypeError(
        `Cannot resume as the training must be that of the saved run: it is "${settings}", that was "${saved.settings}"`,
      );
    }
    for (const [path, value] of saved.params) checkStored(path, value);
    const params = new Map(
      [...saved.params].map(([path, value]) => [path, place(gpu, { path, value, step })]),
    );
    const token = {};
    turnTo(params, token);
    checkLeaves(leafSpecs(frozen), saved.leaves);
    const leaves = new Map(
      [...saved.leaves].map(([path, value]) => [path, place(gpu, { path, value, step })]),
    );
    if (saved.chosen !== undefined) {
      compiler.adopt(saved.chosen);
      forget();
    }
    await checkAllocations(gpu);
    const done = step >= steps || activePaths(frozen).length === 0;
    const chosen = saved.chosen ?? compiler.chosen();
    return seal(
      { ...blank, step, policy, frozen, since, leaves, chosen, params: unflatten(params) as P, done },
      token,
    );
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
      components = findComponents(traced.loss, { leaves: traced.leaves, trainable });
    }
    const policyState = state.policy ?? policy?.init(components, run) ?? null;
    const active = activePaths(state.frozen);
    if (active.length === 0) {
      throw new RangeError(
        `Cannot take step ${step} as all ${components.length} components are frozen: stop when state.done is true`,
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
    const { leaves } = state, { key } = plan;
    if (current === null || current.key !== key || owner !== token) {
      forget();
      owner = token;
      const resolve = (node: Tensor): GPUBuffer => {
        const { path } = node.attrs as { path: Path };
        if (path.startsWith("batch.")) return inputBuffer(path, given.get(path.slice(6))!);
        return storageOf(params.get(path) ?? leaves.get(path)!).buffer;
      };
      current = { key, recording: await record(gpu, { plan: plan.plan, resolve, label: "step" }) };
    }
    for (const [path, tensor] of given) {
      writeValues(gpu, inputBuffer(`batch.${path}`, tensor), hostValues(tensor, `batch.${path}`));
    }
    current.recording.replay(step, compiler.starts(asked));
    gpu.check();

    const renew = (tensor: Tensor): Tensor => {
      const { buffer, label } = storageOf(tensor);
      consume(tensor, step);
      return resident(tensor, { buffer, label, producedAt: step });
    };
    const nextParams = new Map(
      [...params].map(([path, t]) => [path, plan.replaced.has(path) ? renew(t) : t]),
    );
    let nextLeaves: Map<Path, Tensor> = new Map([...leaves].map(([path, t]) => [path, renew(t)]));

    let look: Look | null = null, event: FreezeEvent | null = null;
    let nextPolicy: Json = policyState, { frozen, since } = state;
    if (step % lookEvery === 0 || step === steps) {
      look = await readLook(gpu, nextLeaves.get("ring")!, {
        step,
        columns: plan.columns,
        components,
        signals,
        learningRate: optimizer.learningRate,
      });
      const bad = look.loss.findIndex((l) => !Number.isFinite(l));
      if (bad >= 0) throw new NonFiniteError("loss", look.steps[bad], look.loss[bad]);
      if (policy !== undefined) {
        nextPolicy = policy.next(policyState!, look);
        const decided = policy.frozen(nextPolicy).filter((path) => components.some((c) => c.path === path));
        const change = freezeChange({ step, before: frozen, after: decided });
        if (change !== null) {
          frozen = decided;
          since = sinceAfter(since, change);
          const after = activePaths(frozen).length === 0
            ? NOTHING
            : compiler.compile(request({ frozen, since })).plan.cost;
          event = { ...change, before: plan.plan.cost, after };
          nextLeaves = adjust(nextLeaves, frozen, step);
        }
      }
    }
    const done = step >= steps || activePaths(frozen).length === 0;
    return seal({
      settings,
      step,
      params: unflatten(nextParams) as P,
      loss: nextLeaves.get("loss")!,
      leaves: nextLeaves,
      policy: nextPolicy,
      frozen,
      since,
      look,
      event,
      cost: plan.plan.cost,
      chosen: compiler.chosen(),
      done,
    }, token);
  }

  function inputBuffer(path: Path, spec: Spec): GPUBuffer {
    const key = `${path} ${spec.shape}`;
    if (!inputs.has(key)) inputs.set(key, createBuffer(gpu, { label: path, bytes: bytesOf(spec) }));
    return inputs.get(key)!;
  }

  async function profileStep(state: TrainingState<P>): Promise<KernelTime[]> {
    if (current === null || owner !== owners.get(state) || state.event !== null) {
      throw new TypeError(
        "Cannot profile as the last step must be of this state and have frozen nothing: take a step and profile its state",
      );
    }
    const { recording } = current, starts = compiler.starts(request(state));
    return await undone(gpu, state, () => profile(gpu, { recording, step: state.step, starts }));
  }

  function costOf(frozen: readonly Path[]): Cost {
    if (components.length === 0) {
      throw new TypeError("Cannot tell the cost as no step was taken: take one first");
    }
    return compiler.compile(request({ frozen })).plan.cost;
  }

  function forget(): void {
    current?.recording.destroy();
    current = null;
  }

  function dispose(): void {
    forget();
    for (const buffer of inputs.values()) buffer.destroy();
    inputs.clear();
  }

  return {
    init,
    next,
    resume,
    profile: profileStep,
    components: () => components,
    costOf,
    [Symbol.dispose]: dispose,
  };
}
