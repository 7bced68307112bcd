/**
 * Records plans on a device and replays them.
 *
 * @module
 */

import {
  type DType,
  ELEMENT_BYTES,
  type HostData,
  hostOp,
  hostValues,
  sizeOf,
  type Tensor,
} from "../tensor.ts";
import { checkAllocations, createBuffer, type Gpu, pipelineFor, writeValues } from "./device.ts";
import { readBuffers } from "./readback.ts";
import type { Launch, Pass } from "./timestamps.ts";
import { bytesOf } from "../plan/storage.ts";
import type { Launch as PlannedLaunch, Plan, PlanOptions, Source } from "../plan/types.ts";
import { plan } from "../plan/plan.ts";
import { isResident, resident, storageOf, view } from "./residents.ts";
import { doubleBuffers } from "./double_buffers.ts";

/** A plan with its buffers, pipelines and bind groups: one call replays it. */
export interface Recording {
  readonly plan: Plan;
  /** The buffer of each root; for a double-buffered root, the one of the first step. */
  readonly roots: readonly GPUBuffer[];
  /** New buffers of the double-buffered leaves after the last step, by their old ones. */
  readonly moved: ReadonlyMap<GPUBuffer, GPUBuffer>;
  /** The buffer of each value that the plan keeps of its prefix. */
  readonly kept: readonly GPUBuffer[];
  /** Uploads the step's scalars and submits all launches in one compute pass, or in two with copies between them. */
  replay(step: number, options?: ReplayOptions): void;
  /** Uploads the step's scalars and gives the launches, in order. */
  prepare(step: number, starts?: readonly number[]): Pass["launches"];
  /** Frees the buffers that belong to the recording. */
  destroy(): void;
  /** The same, but for the buffers of intermediate values: another recording may have them. */
  release(): GPUBuffer[];
}

/** How a step is replayed. */
export interface ReplayOptions {
  /** For each group of the plan the step after which its age counts; 0 where absent. */
  readonly starts?: readonly number[];
  /** What happens between the prefix and the rest; nothing when absent. */
  readonly copies?: PrefixCopies;
  /** Whether the device has nothing to do: it begins with the first launches while the others are encoded. */
  readonly idle?: boolean;
}

/** What happens between the prefix of a plan and the rest. */
export interface PrefixCopies {
  /** Leaves the prefix out. */
  readonly skip: boolean;
  /** Copies from or to what the plan keeps of it. */
  encode(encoder: GPUCommandEncoder): void;
}

/** Gives the buffer of a leaf when a plan is recorded. */
export type Resolve = (leaf: Tensor) => GPUBuffer;

type Slot = Extract<Source, { kind: "slot" }>;

/** Launches that are submitted together where the device would wait for all of them otherwise. */
const PORTION = 32;

/**
 * Records a plan: creates its buffers, pipelines and bind groups.
 *
 * @param gpu The device
 * @param options The plan, and where its leaves live; resident leaves are found without help. `spare`: buffers of a
 * recording before it, which this one takes where the size is right, and frees where it is not: a device takes far longer
 * to give memory than a step to run. `taking`: a step that is taken meanwhile, as {@link Recording.replay} does: the
 * device works on the first launches while memory for the others is found
 * @returns The recording
 * @throws {OutOfMemoryError} When the device has no room; as after any error, nothing outside the recording was changed
 */
export async function record(
  gpu: Gpu,
  options: {
    readonly plan: Plan;
    readonly resolve?: Resolve;
    readonly label?: string;
    readonly spare?: readonly GPUBuffer[];
    readonly taking?: { readonly step: number; readonly starts?: readonly number[] };
  },
): Promise<Recording> {
  const { plan, resolve, taking } = options;
  const label = options.label ?? "plan";
  const { device } = gpu;
  const owned: GPUBuffer[] = [];
  const own = (options: { readonly label: string; readonly bytes: number }): GPUBuffer => {
    owned.push(createBuffer(gpu, options));
    return owned[owned.length - 1];
  };
  const free = (): void => owned.forEach((buffer) => buffer.destroy());
  try {
    return await build();
  } catch (error) {
    free();
    throw error;
  }

  async function build(): Promise<Recording> {
    const slots = keepFor(plan, options.spare ?? []);
    owned.push(...slots.filter((buffer) => buffer !== undefined));
    let scalarBuffer: GPUBuffer | null = null;
    const used = new Set([...plan.launches.flatMap((l) => l.bindings), ...plan.roots]);
    const buffers = plan.buffers.map(({ source, bytes }, i): GPUBuffer | null => {
      if (!used.has(i) || source.kind === "slot") return null;
      if (source.kind === "leaf") {
        return isResident(source.node) ? storageOf(source.node).buffer : resolve!(source.node);
      }
      const buffer = own({ label: `${label} ${source.kind}`, bytes });
      if (source.kind === "scalars") scalarBuffer = buffer;
      else if (source.kind === "host") writeValues(gpu, buffer, source.data);
      return buffer;
    });
    const bufferOf = (i: number): GPUBuffer => buffers[i] ??= slotOf((plan.buffers[i].source as Slot).slot);
    const slotOf = (i: number): GPUBuffer =>
      slots[i] ??= own({ label: `intermediate values ${i} of "${label}"`, bytes: plan.slots[i] });

    const bind = ({ kernel, bindings }: PlannedLaunch): Launch => {
      const pipeline = pipelineFor(gpu, kernel);
      gpu.counts.bindGroups++;
      const group = device.createBindGroup({
        label: kernel.name,
        layout: pipeline.getBindGroupLayout(0),
        entries: bindings.map((b, binding) => ({
          binding,
          resource: { buffer: bufferOf(b), size: plan.buffers[b].bytes },
        })),
      });
      return { pipeline, group, grid: kernel.grid };
    };
    const values = new Float32Array(Math.max(4, plan.scalars.length));

    const uploadScalars = (step: number, starts: readonly number[] = []): void => {
      if (scalarBuffer === null) return;
      plan.scalars.forEach(({ value, group }, i) => values[i] = value(step, step - (starts[group] ?? 0)));
      device.queue.writeBuffer(scalarBuffer, 0, values, 0, plan.scalars.length);
    };
    const encode = (encoder: GPUCommandEncoder, part: readonly Launch[]): void => {
      const pass = encoder.beginComputePass();
      let bound: GPUComputePipeline | null = null;
      for (const { pipeline, group, grid } of part) {
        if (pipeline !== bound) pass.setPipeline(pipeline);
        bound = pipeline;
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(...grid as [number, number, number]);
      }
      pass.end();
    };
    const submit = (encoder: GPUCommandEncoder): void => {
      device.queue.submit([encoder.finish()]);
      gpu.counts.submits++;
    };

    const submitAll = (launches: readonly Launch[]): void => {
      const encoder = device.createCommandEncoder();
      encode(encoder, launches);
      submit(encoder);
    };

    const steps: Launch[] = [];
    const { touches, swap } = doubleBuffers(plan, { buffers, slots, owned });
    /** Launches of this step and of the next, which differ where buffers are swapped. */
    let now = steps, later: Launch[] | null = null;
    let moved: Recording["moved"] = new Map();
    const taken = (): void => {
      if (plan.doubleBuffers.length === 0) return;
      moved = swap();
      const next = later ?? plan.launches.map((launch, i) => touches(launch) ? bind(launch) : steps[i]);
      [now, later] = [next, now];
    };
    const bindUpTo = (end: number): void => {
      while (steps.length < end) {
        const from = steps.length;
        steps.push(...plan.launches.slice(from, Math.min(from + PORTION, end)).map(bind));
        if (taking === undefined) continue;
        submitAll(steps.slice(from));
      }
    };
    if (taking !== undefined) {
      uploadScalars(taking.step, taking.starts);
      bindUpTo(plan.firstUpdate);
    }
    // From here on a step changes what is not its own: everything it needs must be there.
    used.forEach(bufferOf);
    const roots = plan.roots.map(bufferOf);
    await checkAllocations(gpu);
    bindUpTo(plan.launches.length);
    if (taking !== undefined) taken();

    const prefix = typeof plan.prefix === "object" ? plan.prefix : null;

    return {
      plan,
      roots,
      get moved() {
        return moved;
      },
      kept: prefix === null ? [] : prefix.kept.map(({ buffer }) => bufferOf(buffer)),
      replay(step: number, { starts, copies, idle = false }: ReplayOptions = {}): void {
        uploadScalars(step, starts);
        if (prefix === null || copies === undefined) {
          const portion = idle ? PORTION : now.length;
          for (let from = 0; from < now.length; from += portion) submitAll(now.slice(from, from + portion));
        } else {
          const { head, launches } = prefix, encoder = device.createCommandEncoder();
          if (!copies.skip) encode(encoder, now.slice(0, head + launches));
          copies.encode(encoder);
          encode(encoder, copies.skip ? now.toSpliced(head, launches) : now.slice(head + launches));
          submit(encoder);
        }
        taken();
      },
      prepare(step: number, starts?: readonly number[]): Pass["launches"] {
        uploadScalars(step, starts);
        return now;
      },
      destroy: free,
      release() {
        const rest = slots.filter((buffer) => buffer !== undefined);
        for (const buffer of owned) if (!rest.includes(buffer)) buffer.destroy();
        return rest;
      },
    };
  }
}

/**
 * Finds which buffers of a recording another one can have, and frees the others.
 *
 * @param plan The plan of the other one
 * @param spare The buffers
 * @returns One of the right size for each of the plan's intermediate values, as far as there is one
 */
export function keepFor(plan: Plan, spare: readonly GPUBuffer[]): (GPUBuffer | undefined)[] {
  const bySize = Map.groupBy(spare, (buffer) => buffer.size);
  const kept = plan.slots.map((bytes) => bySize.get(bytes)?.pop());
  for (const buffer of [...bySize.values()].flat()) buffer.destroy();
  return kept;
}

/**
 * Plans roots for a device.
 *
 * @param gpu The device
 * @param roots What to compute
 * @returns The plan
 */
export function planFor(gpu: Gpu, roots: readonly Tensor[], updates?: PlanOptions["updates"]): Plan {
  return plan(roots, { target: gpu.target, updates });
}

/**
 * Refuses to replay a plan that was recorded before a training step took the values it reads.
 *
 * @param plan The plan
 * @throws {ConsumedError} When a step has consumed a tensor that it reads
 */
export function checkUnconsumed({ buffers }: Plan): void {
  for (const { source } of buffers) {
    if (source.kind === "leaf" && isResident(source.node)) storageOf(source.node);
  }
}

/** Uploads host values, or codes of bf16; the buffer belongs to the returned tensor. */
export function upload(
  gpu: Gpu,
  data: HostData | Uint16Array,
  options: { shape: readonly number[]; label: string },
): Tensor {
  const { shape, label } = options, spec = { shape, dtype: dtypeOf(data) };
  const buffer = createBuffer(gpu, { label, bytes: bytesOf(spec) });
  writeValues(gpu, buffer, data);
  return resident(spec, { buffer, label, producedAt: 0 });
}

function dtypeOf(data: HostData | Uint16Array): DType {
  if (data instanceof Float32Array) return "f32";
  if (data instanceof Uint16Array) return "bf16";
  return data instanceof Int32Array ? "i32" : "u32";
}

/**
 * Computes a tensor and brings its values to the host. Waits for all that the device was given.
 *
 * @param gpu The device
 * @param tensor What to compute, or a tensor of a training state
 * @returns Its values, row-major; those of bf16 as f32
 * @throws {ConsumedError} When a training step has reused its buffer
 */
export async function read(gpu: Gpu, tensor: Tensor): Promise<HostData> {
  const [values] = await readAll(gpu, [tensor]);
  return values;
}

/**
 * Computes several tensors in one submission and brings their values to the host.
 *
 * @param gpu The device
 * @param tensors What to compute
 * @returns The values of each, row-major; those of bf16 as f32
 */
export async function readAll(gpu: Gpu, tensors: readonly Tensor[]): Promise<HostData[]> {
  const stored = tensors.filter((t) => t.op !== hostOp);
  const computed = stored.filter((t) => !isResident(t));
  const recording = computed.length > 0
    ? await record(gpu, { plan: planFor(gpu, computed), label: "read" })
    : null;
  try {
    if (recording !== null) {
      checkUnconsumed(recording.plan);
      recording.replay(1);
    }
    const sources = stored.map((t) => ({
      buffer: isResident(t) ? storageOf(t).buffer : recording!.roots[computed.indexOf(t)],
      bytes: ELEMENT_BYTES[t.dtype] * sizeOf(t.shape),
    }));
    const values = await readBuffers(gpu, sources);
    return tensors.map((t) =>
      t.op === hostOp ? hostValues(t, "read").slice() : view(values[stored.indexOf(t)], t.dtype)
    );
  } finally {
    recording?.destroy();
  }
}
