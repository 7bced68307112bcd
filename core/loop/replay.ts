/**
 * The recorded step, which is replayed until another plan or another run needs the place.
 *
 * @module
 */

import { createBuffer, type Gpu, writeValues } from "../gpu/device.ts";
import { bytesOf, type Plan } from "../gpu/plan.ts";
import { storageOf } from "../gpu/resident.ts";
import { keepFor, record, type Recording } from "../gpu/run.ts";
import { hostValues, type Spec, type Tensor } from "../tensor.ts";
import type { Leaves, Path } from "../tree.ts";
import type { Compiled } from "./compile.ts";

/** A step to take. */
export interface Replay {
  readonly plan: Compiled;
  readonly params: Leaves;
  /** State besides the parameters. */
  readonly leaves: Leaves;
  readonly batch: Leaves;
  readonly step: number;
  /** Step after which each group of the plan began. */
  readonly starts: readonly number[];
  /** What the states of one run have in common: their buffers. */
  readonly owner: object;
}

/** Takes steps. */
export interface Replayer {
  /** Uploads the batch and replays the plan; records it first where it is not the last one. */
  replay(options: Replay): Promise<void>;
  /** The recording of the last step, where it was of a run. */
  recordingOf(owner: object | undefined): Recording | null;
  /** Frees the recording, but for what that of another plan can have. */
  turnTo(plan: Plan): void;
  /** Frees the recording. */
  forget(): void;
  /** Frees the buffers of batches too. */
  dispose(): void;
}

/**
 * Makes a replayer.
 *
 * @param gpu The device
 * @returns The replayer, with nothing recorded
 */
export function replayer(gpu: Gpu): Replayer {
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

  function release(): void {
    if (current !== null) spare.push(...current.recording.release());
    current = null;
  }

  return {
    async replay({ plan: { key, plan }, params, leaves, batch, step, starts, owner }) {
      if (current === null || current.key !== key || current.owner !== owner) {
        release();
        const resolve = (node: Tensor): GPUBuffer => {
          const { path } = node.attrs as { path: Path };
          if (path.startsWith("batch.")) return inputBuffer(path, batch.get(path.slice(6))!);
          return storageOf(params.get(path) ?? leaves.get(path)!).buffer;
        };
        const recording = await record(gpu, { plan, resolve, spare: spare.splice(0), label: "step" });
        // A step of another state may have been taken meanwhile.
        forget();
        current = { key, owner, recording };
      }
      for (const [path, tensor] of batch) {
        writeValues(gpu, inputBuffer(`batch.${path}`, tensor), hostValues(tensor, `batch.${path}`));
      }
      current.recording.replay(step, starts);
      gpu.check();
    },
    recordingOf: (owner) => current !== null && current.owner === owner ? current.recording : null,
    turnTo(plan) {
      release();
      spare = keepFor(plan, spare).filter((buffer) => buffer !== undefined);
    },
    forget,
    dispose() {
      forget();
      for (const buffer of inputs.values()) buffer.destroy();
      inputs.clear();
    },
  };
}
