/**
 * Records plans on a device.
 *
 * @module
 */

import { offsetOf, wholeOf } from "../plan/rows.ts";
import type { Ages, Launch, Plan, PlannedBuffer } from "../plan/types.ts";
import type { Tensor } from "../tensor.ts";
import { checkAllocations, destroyBuffer } from "./buffers.ts";
import type { Gpu } from "./device.ts";
import { doubleBuffers } from "./double_buffers.ts";
import { bindKernel, type BoundKernel, compileAll } from "./pipelines.ts";
import { type PlanBuffers, planBuffers, type Resolve } from "./plan_buffers.ts";
import { PORTION, replay, type ReplayOptions, scalarUpload, submitPass } from "./replay.ts";

/** A plan with its buffers, pipelines and bind groups. One call replays it. */
export interface Recording {
  readonly plan: Plan;
  /** The buffer of each root; for a double-buffered root, the one of the first step. */
  readonly roots: readonly GPUBuffer[];
  /** New buffers of the double-buffered leaves after the last step, by their old ones. */
  readonly moved: ReadonlyMap<GPUBuffer, GPUBuffer>;
  /** The buffer of each value that the plan keeps from its prefix. */
  readonly kept: readonly GPUBuffer[];
  /** Makes the kept copies of weights anew that change: where others than the last replay have changed the weights. */
  copyWeights(): void;
  /** Uploads the scalars of the step and submits all launches. */
  replay(step: number, options?: ReplayOptions): void;
  /** Uploads the scalars of the step and returns the launches, in order. */
  prepare(step: number, ages?: Ages): readonly BoundKernel[];
  /** Destroys the buffers that belong to the recording. */
  destroy(): void;
  /** Destroys them, except those of intermediate values, which are returned for another recording. */
  release(): GPUBuffer[];
}

/** Options of {@link record}. */
export interface RecordOptions {
  /** The plan. */
  readonly plan: Plan;
  /** Buffers of its leaves. Resident leaves need none. */
  readonly resolve?: Resolve;
  /** Where a leaf begins in its buffer, in bytes; at 0 when absent. */
  readonly firstByte?: (leaf: Tensor) => number;
  /** Name of the plan, for errors. */
  readonly label?: string;
  /**
   * Buffers of an earlier recording. Those of a fitting size are reused, the others are destroyed: a device takes far
   * longer to allocate memory than to run a step.
   */
  readonly spare?: readonly GPUBuffer[];
  /**
   * A step to take while the plan is recorded, as {@link Recording.replay} does: the device works on the first launches
   * while buffers for the others are allocated.
   */
  readonly taking?: { readonly step: number; readonly ages?: Ages };
}

/**
 * Records a plan: creates its buffers, pipelines and bind groups.
 *
 * @param gpu The device
 * @param options The plan, and the buffers of its leaves
 * @returns The recording
 * @throws {OutOfMemoryError} When the device has no room; nothing outside the recording was changed, as after any error
 */
export async function record(gpu: Gpu, options: RecordOptions): Promise<Recording> {
  const { plan, resolve, label = "plan", spare = [] } = options;
  const owned: GPUBuffer[] = [];
  try {
    return await build(gpu, options, planBuffers(gpu, { plan, resolve, label, spare, owned }));
  } catch (error) {
    owned.forEach(destroyBuffer);
    throw error;
  }
}

async function build(
  gpu: Gpu,
  { plan, taking, firstByte = () => 0 }: RecordOptions,
  memory: PlanBuffers,
): Promise<Recording> {
  const { slots, owned } = memory;
  await compileAll(
    gpu,
    [...plan.copies.fixed, ...plan.copies.changing, ...plan.launches].map(({ kernel }) => kernel),
  );
  /** What a launch binds of the buffer that a planned buffer is in. */
  const rangeOf = ({ source, bytes: size }: PlannedBuffer): Omit<GPUBufferBinding, "buffer"> => {
    if (!("node" in source)) return { offset: 0, size };
    const whole = source.kind === "leaf" ? firstByte(wholeOf(source.node)) : 0;
    return { offset: whole + offsetOf(source.node), size };
  };
  const bind = ({ kernel, bindings }: Launch): BoundKernel =>
    bindKernel(gpu, kernel, bindings.map((b) => ({ buffer: memory.of(b), ...rangeOf(plan.buffers[b]) })));
  const uploadScalars = scalarUpload(gpu, { plan, memory });
  const bound: BoundKernel[] = [];
  const bindUpTo = (end: number): void => {
    while (bound.length < end) {
      const from = bound.length;
      bound.push(...plan.launches.slice(from, Math.min(from + PORTION, end)).map(bind));
      if (taking !== undefined) submitPass(gpu, bound.slice(from));
    }
  };
  const changing = plan.copies.changing.map(bind), copies = [...plan.copies.fixed.map(bind), ...changing];
  if (copies.length > 0) submitPass(gpu, copies);
  if (taking !== undefined) {
    uploadScalars(taking.step, taking.ages);
    bindUpTo(plan.firstUpdate);
  }
  // The next launches overwrite values outside the recording, so all buffers must exist by now.
  memory.createAll();
  const roots = plan.roots.map(memory.of);
  await checkAllocations(gpu);
  bindUpTo(plan.launches.length);
  const sides = alternate({ plan, bound, memory, bind });
  if (taking !== undefined) sides.swap();

  const { prefix } = plan;
  return {
    plan,
    roots,
    get moved() {
      return sides.moved;
    },
    copyWeights: () => changing.length > 0 ? submitPass(gpu, changing) : undefined,
    kept: typeof prefix === "object" ? prefix.kept.map(({ buffer }) => memory.of(buffer)) : [],
    replay(step: number, options: ReplayOptions = {}): void {
      uploadScalars(step, options.ages);
      replay(gpu, { plan, launches: sides.now }, options);
      sides.swap();
    },
    prepare(step: number, ages?: Ages): readonly BoundKernel[] {
      uploadScalars(step, ages);
      return sides.now;
    },
    destroy: () => owned.forEach(destroyBuffer),
    release() {
      const rest = slots.filter((buffer) => buffer !== undefined);
      for (const buffer of owned) if (!rest.includes(buffer)) destroyBuffer(buffer);
      return rest;
    },
  };
}

/** The launches of a recording. With double buffers, every other step binds the other buffer of each pair. */
interface Sides extends Pick<Recording, "moved"> {
  /** The launches of the next step. */
  readonly now: readonly BoundKernel[];
  /** Called after each step. */
  swap(): void;
}

function alternate({ plan, bound, memory, bind }: {
  readonly plan: Plan;
  readonly bound: readonly BoundKernel[];
  readonly memory: PlanBuffers;
  readonly bind: (launch: Launch) => BoundKernel;
}): Sides {
  const pairs = doubleBuffers(plan, memory);
  let now = bound, later: readonly BoundKernel[] | null = null;
  let moved: Recording["moved"] = new Map();
  return {
    get now() {
      return now;
    },
    get moved() {
      return moved;
    },
    swap() {
      if (plan.doubleBuffers.length === 0) return;
      moved = pairs.swap();
      const next = later ?? plan.launches.map((launch, i) => pairs.touches(launch) ? bind(launch) : bound[i]);
      [now, later] = [next, now];
    },
  };
}
