/**
 * The recorded step, which is replayed until another plan or another run needs the place.
 *
 * @module
 */

import { checkAllocations, createBuffer, type Gpu, writeValues } from "../../runtime/device.ts";
import { bytesOf } from "../../plan/storage.ts";
import type { Cost } from "../../plan/types.ts";
import { storageOf } from "../../runtime/residents.ts";
import { keepFor, record, type Recording } from "../../runtime/record.ts";
import { hostValues, type Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import type { Compiled } from "./compile.ts";
import type { PrefixCache } from "../freeze/prefix_cache.ts";

/** A step to take. */
export interface Replay {
  readonly plan: Compiled;
  readonly params: Leaves;
  /** State besides the parameters. */
  readonly leaves: Leaves;
  readonly batch: Leaves;
  readonly step: number;
  /** Whether the device has nothing to do, as after a look. */
  readonly idle: boolean;
  /** What the states of one run have in common: their buffers. */
  readonly owner: object;
}

/** A step that was taken. */
export interface Replayed {
  readonly cost: Cost;
  /** As {@link Recording.moved}. */
  readonly moved: Recording["moved"];
}

/** A recording, and the plan of the last step that it took: of plans with one key only `starts` differ. */
export interface Recorded {
  readonly plan: Compiled;
  readonly recording: Recording;
}

/** Takes steps. */
export interface Replayer {
  /**
   * Uploads the batch and replays the plan; records it first where it is not the last one.
   *
   * @returns What it cost, and which buffers moved
   * @throws When the device reports an error before all is submitted: then the step was not taken, and may be again
   */
  replay(options: Replay): Promise<Replayed>;
  /** Does something while no step is taken: at once, or after those that wait already. */
  alone<T>(work: () => T | Promise<T>): Promise<T>;
  /** The last step, where it was of a run. */
  lastOf(owner: object | undefined): Recorded | null;
  /** Frees the recording, but for what that of another plan can have; once no step is taken. */
  turnTo(next: Pick<Replay, "plan" | "owner">): void;
  /** Frees the recording, and what is kept of prefixes; once no step is taken. */
  forget(): void;
  /** Frees the buffers of batches too, at once. */
  dispose(): void;
}

/**
 * Makes a replayer.
 *
 * @param gpu The device
 * @param cache Keeps the values of prefixes; null where none are kept
 * @returns The replayer, with nothing recorded
 */
export function replayer(gpu: Gpu, cache: PrefixCache | null): Replayer {
  /** Buffers of batches; all that the recording binds are among them. */
  const inputs = new Map<Path, GPUBuffer>();
  let current: Recorded & { readonly owner: object } | null = null;
  /** Buffers for the next recording. */
  let spare: GPUBuffer[] = [];

  /** Frees the buffers that a batch of other shapes cannot have, and makes those that it lacks. */
  function turnInputs(batch: Leaves): void {
    for (const [path, buffer] of inputs) {
      const spec = batch.get(path);
      if (spec !== undefined && bytesOf(spec) === buffer.size) continue;
      buffer.destroy();
      inputs.delete(path);
    }
    for (const [path, spec] of batch) {
      if (inputs.has(path)) continue;
      inputs.set(path, createBuffer(gpu, { label: `batch.${path}`, bytes: bytesOf(spec) }));
    }
  }

  function freeInputs(): void {
    for (const buffer of inputs.values()) buffer.destroy();
    inputs.clear();
  }

  function forget(): void {
    current?.recording.destroy();
    current = null;
    for (const buffer of spare.splice(0)) buffer.destroy();
    cache?.clear();
  }

  /** Replays the recording; a cache that a failing step was to fill is not to be trusted. */
  async function run({ plan, batch, step, owner, idle }: Replay, recording: Recording): Promise<Cost> {
    try {
      cache?.meet(plan, owner);
      const copies = cache?.copiesOf({ recording, batch });
      if (copies !== undefined && !copies.skip) await checkAllocations(gpu);
      recording.replay(step, { starts: plan.starts, copies, idle });
      const { prefix, cost } = plan.plan;
      return copies?.skip && typeof prefix === "object" ? prefix.rest : cost;
    } catch (error) {
      cache?.clear();
      throw error;
    }
  }

  /** Steps of several states wait for each other: they have buffers of batches in common. Null while none is taken. */
  let turn: Promise<unknown> | null = null;

  function alone<T>(work: () => T | Promise<T>): Promise<T> {
    const done = turn === null ? Promise.try(work) : turn.then(work);
    const over: Promise<unknown> = done.catch(() => {}).then(() => {
      if (turn === over) turn = null;
    });
    turn = over;
    return done;
  }

  /** Takes a step. Nothing throws after its updates were submitted: the state that it had is no more then. */
  async function take(asked: Replay): Promise<Replayed> {
    const { plan, params, leaves, batch, step, owner } = asked;
    gpu.check();
    const values = [...batch].map(([path, tensor]) => [path, hostValues(tensor, `batch.${path}`)] as const);
    const known = current?.plan.key === plan.key && current.owner === owner ? current : null;
    if (known === null) {
      release();
      turnInputs(batch);
    }
    for (const [path, data] of values) writeValues(gpu, inputs.get(path)!, data);
    if (known !== null) {
      const { recording } = current = { ...known, plan };
      return { cost: await run(asked, recording), moved: recording.moved };
    }
    const resolve = (node: Tensor): GPUBuffer => {
      const { path } = node.attrs as { path: Path };
      if (path.startsWith("batch.")) return inputs.get(path.slice(6))!;
      return storageOf(params.get(path) ?? leaves.get(path)!).buffer;
    };
    // What a cache has of the prefix decides which launches the step has.
    const taking = cache === null ? { step, starts: plan.starts } : undefined;
    const recording = await record(gpu, {
      plan: plan.plan,
      resolve,
      spare: spare.splice(0),
      label: "step",
      taking,
    }).catch((error) => {
      // One of them may have been refused.
      freeInputs();
      throw error;
    });
    current = { plan, owner, recording };
    return {
      cost: taking === undefined ? await run(asked, recording) : plan.plan.cost,
      moved: recording.moved,
    };
  }

  function release(): void {
    if (current !== null) spare.push(...current.recording.release());
    current = null;
  }

  return {
    replay: (asked) => alone(() => take(asked)),
    alone,
    lastOf: (owner) => current !== null && current.owner === owner ? current : null,
    turnTo({ plan, owner }) {
      alone(() => {
        release();
        cache?.meet(plan, owner);
        spare = keepFor(plan.plan, spare).filter((buffer) => buffer !== undefined);
      });
    },
    forget() {
      alone(forget);
    },
    dispose() {
      forget();
      freeInputs();
    },
  };
}
