/**
 * Takes steps: records a plan, and replays it until another plan or another run needs its place.
 *
 * @module
 */

import { InputError } from "../../errors.ts";
import type { Ages, Cost } from "../../plan/types.ts";
import type { Ranks } from "../ranks.ts";
import { checkAllocations, destroyBuffer, writeValues } from "../../runtime/buffers.ts";
import type { Gpu } from "../../runtime/device.ts";
import { keepFor, type Resolve } from "../../runtime/plan_buffers.ts";
import { record, type Recording } from "../../runtime/record.ts";
import { storageOf } from "../../runtime/residents.ts";
import type { Tensor } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import type { PrefixCache } from "../freeze/prefix_cache.ts";
import { writeNoLabels } from "../freeze/ring.ts";
import { ALL_WEIGHT, LOSS, RING } from "../state/specs.ts";
import type { AddsGradients, Exchange, ExchangeTime } from "../parameter_exchange.ts";
import { type Accumulation, type Place, type PlannedPart, recordParts } from "./accumulation.ts";
import { type BatchBuffers, batchBuffers, batchValues } from "./batch_buffers.ts";
import type { CompiledStep } from "./compile.ts";
import type { StepDefinition } from "./definition.ts";
import { type Lock, lock } from "../../runtime/lock.ts";

/** A step to take. */
export interface Execution {
  readonly compiled: CompiledStep;
  readonly params: Leaves;
  /** State besides the parameters. */
  readonly leaves: Leaves;
  readonly batch: Leaves;
  /** The parts of the step, of which `batch` is the first, and how many labels each has; none where a step has one batch. */
  readonly parts?: readonly { readonly batch: Leaves; readonly labels: number }[];
  /** Most parts of a step. */
  readonly most?: number;
  readonly step: number;
  /** Whether the device has nothing to do, as after a look. */
  readonly idle: boolean;
  /** The run whose buffers these are. */
  readonly owner: object;
}

/** A step to pass over. */
export type Passed = Pick<Execution, "compiled" | "leaves" | "step">;

/** What became of a step. */
export interface Executed {
  readonly cost: Cost;
  /** As {@link Recording.moved}. */
  readonly moved: Recording["moved"];
  /** Whether it was passed over, as its batch has no labels; absent when not. */
  readonly passed?: true;
  /** How long it took to add up what the ranks have; absent where one process trains. */
  readonly exchange?: ExchangeTime;
}

/** A recording, and the last step that it replayed: plans with one key differ in `ages` only. */
export interface RecordedStep {
  readonly compiled: CompiledStep;
  readonly recording: Recording;
  /** The step that it replayed last. */
  readonly step: number;
  /** Sums over the parts of a step; null where a step has one batch. */
  readonly sums: Accumulation | null;
  readonly owner: object;
}

/** Takes the steps of a training, one at a time: they share the recording and the buffers of the batch. */
export interface StepExecutor {
  /**
   * Uploads the batch and replays the plan. Records the plan first when it is not the last one.
   *
   * @returns What the step cost, and which buffers moved
   * @throws When the device reports an error before all is submitted. Then the step was not taken, and can be tried again
   */
  execute(options: Execution): Promise<Executed>;
  /** Takes a step whose batch has no labels: it changes nothing but the readings, which are absent. */
  pass(options: Passed): Promise<Executed>;
  /** Runs work while no step is taken. */
  readonly exclusive: Lock["exclusive"];
  /** Makes copies of weights anew that the recording keeps: others than a step have changed the weights. */
  renewWeights(): void;
  /** The last step, when it was one of a run. */
  lastOf(owner: object | undefined): RecordedStep | null;
  /** Frees the recording, but for buffers that the next plan can have; after the steps that wait already. */
  prepareFor(next: Pick<Execution, "compiled" | "owner">): void;
  /** Frees the recording and the cached prefix; after the steps that wait already. */
  forget(): void;
  /** Frees the buffers of the batch too, at once. */
  dispose(): void;
}

/** What one executor has on the device. Steps change it while they hold the lock. */
interface Device {
  readonly gpu: Gpu;
  readonly cache: PrefixCache | null;
  readonly ranks: StepDefinition["ranks"];
  /** Null before the first step, and where one process trains. */
  exchange: Exchange | null;
  readonly inputs: BatchBuffers;
  /** Which parts of all are those of this rank. */
  readonly place: Pick<Ranks, "rank" | "size">;
  /** The step that is recorded. */
  current: RecordedStep | null;
  /** Buffers for the next recording. */
  spare: GPUBuffer[];
}

/**
 * Makes an executor.
 *
 * @param gpu The device
 * @param options What caches the values of a frozen prefix, null for no cache; the processes that train together
 * @returns The executor, with nothing recorded
 */
export function stepExecutor(
  gpu: Gpu,
  { cache, ranks, together }: Pick<StepDefinition, "ranks" | "together"> & {
    readonly cache: PrefixCache | null;
  },
): StepExecutor {
  const device: Device = {
    gpu,
    cache,
    ranks,
    exchange: null,
    inputs: batchBuffers(gpu),
    place: together ?? { rank: 0, size: 1 },
    current: null,
    spare: [],
  };
  const { exclusive } = lock();
  return {
    execute: (step) => exclusive(() => execute(device, step)),
    pass: (step) => exclusive(() => pass(device, step)),
    exclusive,
    renewWeights: () => device.current?.recording.copyWeights(),
    lastOf: (owner) => device.current !== null && device.current.owner === owner ? device.current : null,
    prepareFor({ compiled, owner }) {
      exclusive(() => {
        release(device);
        cache?.invalidate(compiled, owner);
        device.spare = keepFor(compiled.plan, device.spare).filter((buffer) => buffer !== undefined);
      });
    },
    forget() {
      exclusive(() => forget(device));
    },
    dispose() {
      forget(device);
      device.exchange?.destroy();
      device.inputs.free();
    },
  };
}

/** Frees the recording, but for buffers that another one may have. */
function release(device: Device): void {
  if (device.current !== null) device.spare.push(...device.current.recording.release());
  device.current?.sums?.destroy();
  device.current = null;
}

function forget(device: Device): void {
  device.current?.recording.destroy();
  device.current?.sums?.destroy();
  device.current = null;
  for (const buffer of device.spare.splice(0)) destroyBuffer(buffer);
  device.cache?.clear();
}

/** Takes a step. Nothing throws after its updates were submitted: the state before it is gone then. */
async function execute(device: Device, step: Execution): Promise<Executed> {
  if (step.compiled.part !== null) return await accumulate(device, step, step.compiled.part);
  const { compiled, owner, batch } = step;
  device.gpu.check();
  const values = batchValues(batch), { current } = device;
  if (current?.compiled.key === compiled.key && current.owner === owner) {
    device.inputs.write(values);
    // The run went back, or passed a step: its weights are not those that the last replay left.
    if (current.step !== step.step - 1) current.recording.copyWeights();
    device.current = { ...current, compiled, step: step.step };
    return { cost: await replay(device, step, current.recording), moved: current.recording.moved };
  }
  release(device);
  device.inputs.resize(batch);
  device.inputs.write(values);
  // Which launches the step has is up to the cache, when there is one; else they begin while the plan is recorded.
  const taking = device.cache === null ? { step: step.step, ages: compiled.ages } : undefined;
  const recording = await recordStep(device, step, taking);
  device.current = { compiled, owner, recording, step: step.step, sums: null };
  const cost = taking === undefined ? await replay(device, step, recording) : compiled.cost;
  return { cost, moved: recording.moved };
}

/** Takes a step of several parts: they leave their sums on the device, and the plan goes on with them. */
async function accumulate(device: Device, step: Execution, part: PlannedPart): Promise<Executed> {
  const { compiled, owner, batch, parts = [], most = 1 } = step, { gpu, inputs } = device;
  gpu.check();
  const own = parts.reduce((n, { labels }) => n + labels, 0), exchange = await exchangeOf(device);
  const agreed = exchange?.agree(own, { step: step.step, key: [...part.sums.keys()].join(" ") });
  // Awaited later: the device works until all have answered.
  agreed?.catch(() => {});
  if (exchange?.unit === null) await agreed;
  const unit = exchange?.unit ?? own;
  const values = parts.map(({ batch, labels }) => ({ values: batchValues(batch), weight: labels / unit }));
  let { current } = device;
  if (current?.compiled.key !== compiled.key || current.owner !== owner) {
    release(device);
    inputs.resize(batch);
    const resolve = resolver(device, step);
    const sums = await recordParts(gpu, part, { resolve, inputs, shared: exchange !== null });
    try {
      const recording = await recordStep(device, step, undefined, sums.place);
      current = { compiled, owner, recording, step: step.step, sums };
    } catch (error) {
      sums.destroy();
      throw error;
    }
  }
  device.current = { ...current, compiled, step: step.step };
  await checkAllocations(gpu);
  const { place: { rank, size } } = device, sums = current.sums!;
  sums.run(step.step, values.filter(({ weight }) => weight > 0), { of: most * size, from: most * rank });
  const time = await exchange?.sum(sums.summed, { after: agreed }), labels = await agreed;
  if (labels === 0) return { ...pass(device, step), ...time && { exchange: time } };
  if (labels !== undefined) {
    writeValues(gpu, sums.place(ALL_WEIGHT)!.buffer, Float32Array.of(labels / unit));
  }
  current.recording.replay(step.step, { ages: compiled.ages });
  return { cost: compiled.cost, moved: current.recording.moved, ...time && { exchange: time } };
}

/** What adds up what the ranks have: what they bring along, or that of Firn. */
async function exchangeOf(device: Device): Promise<Exchange | null> {
  const { gpu, ranks } = device;
  if (ranks === null || device.exchange !== null) return device.exchange;
  return device.exchange = (ranks.gradients ?? await ownExchange())(gpu, ranks);
}

/** Named so that no bundler puts it into a page, which has no ranks. */
const EXCHANGE = "./exchange.ts";

async function ownExchange(): Promise<AddsGradients["gradients"]> {
  const { gradientExchange }: typeof import("./exchange.ts") = await import(EXCHANGE).catch(
    (error: Error) => {
      throw new InputError(
        `Cannot train on several ranks as "ranks" of a program that is bundled must bring "gradients", as those of openRanks() do: ${error.message}; take those`,
      );
    },
  );
  return gradientExchange;
}

/** Writes what is absent. The cost is that of a step with labels, as what is frozen decides about it. */
function pass({ gpu }: Device, { compiled, leaves, step }: Passed): Executed {
  gpu.check();
  writeNoLabels(gpu, leaves.get(RING)!, step);
  writeValues(gpu, storageOf(leaves.get(LOSS)!).buffer, Float32Array.of(NaN));
  return { cost: compiled.cost, moved: new Map(), passed: true };
}

/** Finds the buffers of leaves. */
function resolver({ inputs }: Device, { params, leaves }: Execution): Resolve {
  return (node) => {
    const { path } = node.attrs as { path: Path };
    if (path.startsWith("batch.")) return inputs.get(path.slice("batch.".length));
    return storageOf(params.get(path) ?? leaves.get(path)!).buffer;
  };
}

async function recordStep(
  device: Device,
  step: Execution,
  taking?: { readonly step: number; readonly ages: Ages },
  placeOf: Accumulation["place"] = () => undefined,
): Promise<Recording> {
  const { gpu, inputs, spare } = device, { compiled: { plan } } = step, others = resolver(device, step);
  const placed = (node: Tensor): Place | undefined => placeOf((node.attrs as { path: Path }).path);
  const resolve: Resolve = (node) => placed(node)?.buffer ?? others(node);
  const firstByte = (node: Tensor): number => placed(node)?.from ?? 0;
  try {
    return await record(gpu, { plan, resolve, firstByte, spare: spare.splice(0), label: "step", taking });
  } catch (error) {
    // One of the buffers of the batch may have been refused.
    inputs.free();
    throw error;
  }
}

/** Replays a recording. A cache that a failing step was to fill is cleared: its values may be missing. */
async function replay(
  { gpu, cache }: Device,
  { compiled, batch, step, owner, idle }: Execution,
  recording: Recording,
): Promise<Cost> {
  try {
    cache?.invalidate(compiled, owner);
    const copies = cache?.copiesOf({ recording, batch });
    if (copies !== undefined && !copies.skip) await checkAllocations(gpu);
    recording.replay(step, { ages: compiled.ages, copies, idle });
    const { prefix } = compiled.plan;
    return copies?.skip && typeof prefix === "object" ? prefix.rest : compiled.cost;
  } catch (error) {
    cache?.clear();
    throw error;
  }
}
