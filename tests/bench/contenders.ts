/**
 * Firn's side of the benchmark: training of a model shape, of pairs of LoRA beside a frozen base, and of the one-layer
 * network.
 *
 * @module
 */

import { definePolicy, type FreezePolicy, type Signal } from "@firn/train/policies";
import { free, type Gpu, type Precision, read, tensor } from "@firn/train";
import { adapterTraining, type AdapterWork } from "./adapter_base.ts";
import { allocationsOn, plannedOf } from "./allocated.ts";
import type { Contender } from "./measure.ts";
import { batchOf, oneLayer, type OneLayerBatch, type OneLayerSize } from "./one_layer.ts";
import { closeWork, type Shape, workOf } from "./shapes.ts";
import { FIRN_LAYER, firnAdapterSide, firnModelSide } from "./sides.ts";
import { settle } from "./timestamps.ts";

/** Training of a model shape. */
export async function firnModel(
  gpu: Gpu,
  options: {
    readonly shape: Shape;
    readonly batch: number;
    readonly length: number;
    readonly policy?: FreezePolicy;
    readonly precision?: Precision;
    readonly name?: string;
  },
): Promise<Contender> {
  const allocations = allocationsOn(gpu);
  const { training, batch, ...made } = await allocations.during(() => workOf(gpu, options));
  let { state } = made;
  const next = () => training.next(state, batch);
  return {
    name: options.name ?? "Firn",
    side: firnModelSide(options.precision),
    async step() {
      // Steps after the first one allocate nothing.
      state = await (state.step === 0 ? allocations.during(next) : next());
    },
    settle: () => settle(gpu),
    loss: async () => (await read(gpu, state.loss!))[0],
    memory: () => allocations.memory(plannedOf(state, batch)),
    close: () => closeWork({ training, state }),
  };
}

/** Training of pairs of LoRA beside a frozen base. */
export async function firnAdapter(gpu: Gpu, work: AdapterWork): Promise<Contender> {
  const allocations = allocationsOn(gpu);
  const { training, params, batch } = await allocations.during(() =>
    adapterTraining(gpu, work, { steps: 1e6, lookEvery: 1000 })
  );
  let state = await allocations.during(async () => {
    const first = await training.init(params);
    // The state holds the base, too.
    free(params);
    return first;
  });
  const next = () => training.next(state, batch);
  return {
    name: "Firn",
    side: firnAdapterSide(work.precision),
    async step() {
      state = await (state.step === 0 ? allocations.during(next) : next());
    },
    settle: () => settle(gpu),
    loss: async () => (await read(gpu, state.loss!))[0],
    memory: () => allocations.memory(plannedOf(state, batch)),
    close: () => closeWork({ training, state }),
  };
}

/** A policy that has signals measured and freezes nothing. */
export function watching(signals: readonly Signal[]): FreezePolicy {
  return definePolicy({
    name: `watching(${signals.join(", ")})`,
    signals,
    init: () => ({}),
    next: (state) => state,
    frozen: () => [],
  });
}

/** Training of the one-layer network. */
export async function firnLayer(gpu: Gpu, size: OneLayerSize): Promise<Contender> {
  const allocations = allocationsOn(gpu);
  const { training, ...made } = await allocations.during(() => oneLayer(gpu, size));
  const shape = [size.batch, size.time];
  let { state } = made;
  const batchAfter = (step: number): OneLayerBatch => {
    const { x, y } = batchOf(size, step + 1);
    return { x: tensor(x, shape), y: tensor(y, shape) };
  };
  const next = () => training.next(state, batchAfter(state.step));
  return {
    name: "Firn",
    side: FIRN_LAYER,
    async step() {
      state = await (state.step === 0 ? allocations.during(next) : next());
    },
    settle: () => settle(gpu),
    loss: async () => (await read(gpu, state.loss!))[0],
    memory: () => allocations.memory(plannedOf(state, batchAfter(state.step))),
    close: () => closeWork({ training, state }),
  };
}
