/**
 * The recorded step, which is replayed until another plan or another run needs the place.
 *
 * @module
 */

import { checkAllocations, createBuffer, type Gpu, writeValues } from "../gpu/device.ts";
import { bytesOf, type Cost } from "../gpu/plan.ts";
import { storageOf } from "../gpu/resident.ts";
import { keepFor, record, type Recording } from "../gpu/run.ts";
import { hostValues, type Spec, type Tensor } from "../tensor.ts";
import type { Leaves, Path } from "../tree.ts";
import type { Compiled } from "./compile.ts";
import type { PrefixCache } from "./prefix_cache.ts";

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

/** Takes steps. */
export interface Replayer {
  /**
   * Uploads the batch and replays the plan; records it first where it is not the last one.
   *
   * @returns What it cost, and which buffers moved
   */
  replay(options: Replay): Promise<Replayed>;
  /** The recording of the last step, where it was of a run. */
  recordingOf(owner: object | undefined): Recording | null;
  /** Frees the recording, but for what that of another plan can have. */
  turnTo(next: Pick<Replay, "plan" | "owner">): void;
  /** Frees the recording, and what is kept of prefixes. */
  forget(): void;
  /** Frees the buffers of batches too. */
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
  const inputs = new Map<string, GPUBuffer>();
  let current: { readonly key: string; readonly owner: object; readonly recording: Recording } | null = null;

  function inputBuffer(path: Path, spec: Spec): GPUBuffer {
    const key = `${path} ${spec.shape}`;
    if (!inputs.has(key)) inputs.set(key, createBuffer(gpu, { label: path, bytes: bytesOf(spec) }));
    return inputs.get(key)!;
  }

  /** Buffers for the next recording. */
  let spare: GPUBuffer[] = [];

  function forget(): void {
    current?.recording.destroy();
    current = null;
    for (const buffer of spare.splice(0)) buffer.destroy();
  }

  /** Replays the recording; a cache that a failing step was to fill is not to be trusted. */
  async function run({ plan, batch, step, owner, idle }: Replay, recording: Recording): Promise<Cost> {
    try {
      cache?.meet(plan, owner);
      const copies = cache?.copiesOf({ recording, batch });
      recording.replay(step, { starts: plan.starts, copies, idle });
      if (copies !== undefined && !copies.skip) await checkAllocations(gpu);
      gpu.check();
      const { prefix, cost } = plan.plan;
      return copies?.skip && typeof prefix === "object" ? prefix.rest : cost;
    } catch (error) {
      cache?.clear();
      throw error;
    }
  }

  /** Steps of several states wait for each other: they have buffers of batches in common. Null while none is taken. */
  let turn: Promise<unknown> | null = null;

  async function take(asked: Replay): Promise<Replayed> {
    const { plan: { key, plan, starts }, params, leaves, batch, step, owner } = asked;
    for (const [path, tensor] of batch) {
      writeValues(gpu, inputBuffer(`batch.${path}`, tensor), hostValues(tensor, `batch.${path}`));
    }
    if (current !== null && current.key === key && current.owner === owner) {
      const { recording } = current;
      return { cost: await run(asked, recording), moved: recording.moved };
    }
    release();
    const resolve = (node: Tensor): GPUBuffer => {
      const { path } = node.attrs as { path: Path };
      if (path.startsWith("batch.")) return inputBuffer(path, batch.get(path.slice(6))!);
      return storageOf(params.get(path) ?? leaves.get(path)!).buffer;
    };
    // What a cache has of the prefix decides which launches the step has.
    const taking = cache === null ? { step, starts } : undefined;
    const recording = await record(gpu, { plan, resolve, spare: spare.splice(0), label: "step", taking });
    current = { key, owner, recording };
    return {
      cost: taking === undefined ? await run(asked, recording) : plan.cost,
      moved: recording.moved,
    };
  }

  function release(): void {
    if (current !== null) spare.push(...current.recording.release());
    current = null;
  }

  return {
    replay(asked) {
      const taken = turn === null ? take(asked) : turn.then(() => take(asked));
      const done: Promise<unknown> = taken.catch(() => {}).then(() => {
        if (turn === done) turn = null;
      });
      turn = done;
      return taken;
    },
    recordingOf: (owner) => current !== null && current.owner === owner ? current.recording : null,
    turnTo({ plan, owner }) {
      release();
      cache?.meet(plan, owner);
      spare = keepFor(plan.plan, spare).filter((buffer) => buffer !== undefined);
    },
    forget() {
      forget();
      cache?.clear();
    },
    dispose() {
      forget();
      cache?.clear();
      for (const buffer of inputs.values()) buffer.destroy();
      inputs.clear();
    },
  };
}
