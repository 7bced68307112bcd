/**
 * What training takes on the device, and the largest batch that fits: the types.
 *
 * @module
 */

import type { Path, TensorTree } from "../tree.ts";

/** What a step takes on the device, and what its backward pass computes again. */
export interface StepMemory {
  /** Bytes that it may take. */
  readonly budget: number;
  /** Bytes that it takes. */
  readonly bytes: number;
  /** Bytes that it would take if it computed nothing again. */
  readonly bytesWithout: number;
  /** Blocks of the forward pass that are computed again. */
  readonly blocks: number;
  /** Blocks that could be. */
  readonly of: number;
  /** Operations of the step, as a multiple of those without. */
  readonly operations: number;
}

/** Which batches `training.largestBatch` tries, and what they may take. */
export interface LargestBatchOptions<P extends TensorTree, B extends TensorTree> {
  /** Parameters as `init` takes them; their shapes and types count. */
  readonly params: P;
  /** A batch of so many samples; only shapes and types count, so that `leaf(name, spec)` will do. */
  readonly batchOf: (size: number) => B;
  /** Most samples of a batch, such as all there are. */
  readonly most: number;
  /** Bytes that training may take on the device, such as `"8 GiB"`; those of the training when absent. */
  readonly memory?: number | string;
  /** Paths of the components that are frozen; none when absent. */
  readonly frozen?: readonly Path[];
}

/** The largest batch that fits. */
export interface BatchChoice {
  /** Its samples. */
  readonly size: number;
  /** What a step of it takes. */
  readonly memory: StepMemory;
}
