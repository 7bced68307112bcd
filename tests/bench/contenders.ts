/**
 * Firn's side of the benchmark: training of a model shape, of the one-layer network, and a product alone.
 *
 * Axes: M rows, N columns, K length of the sums.
 *
 * @module
 */

import { definePolicy, type FreezePolicy, type Signal } from "@firn/train/policies";
import { free, type Gpu, matmul, type Precision, read, type Tensor, tensor } from "@firn/train";
import type { Plan } from "../../core/plan/types.ts";
import { planFor } from "../../core/infer/read.ts";
import { record } from "../../core/runtime/record.ts";
import { upload } from "../../core/runtime/upload.ts";
import { allocationsOn, plannedOf } from "./allocated.ts";
import { settle } from "./timestamps.ts";
import type { Contender } from "./measure.ts";
import { batchOf, oneLayer, type OneLayerBatch, type OneLayerSize } from "./one_layer.ts";
import { closeWork, type Shape, workOf } from "./shapes.ts";
import { FIRN_LAYER, firnModelSide, PRODUCT } from "./sides.ts";

/** Work of one recording of products: 50 ms at 50 TFLOP/s. */
const RECORDED_FLOPS = 2.5e12;

/** Sizes and layouts of a product. */
export interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Which operands are stored transposed: a forward product of weights [out, in] is NT, its dX NN, its dW TN. */
  readonly layout: "NN" | "NT" | "TN";
}

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

/** The same launches again and again. */
function repeated(plan: Plan, times: number): Plan {
  return { ...plan, launches: Array.from({ length: times }, () => plan.launches).flat() };
}

/** A product by the op `matmul`, so often in one recording that the host is out of the way; a step is one product. */
export async function firnProduct(
  gpu: Gpu,
  { m, n, k, layout }: Product,
  recorded = RECORDED_FLOPS,
): Promise<Contender> {
  const transposeA = layout === "TN", transposeB = layout === "NT";
  const operand = (label: string, rows: number, columns: number): Tensor =>
    upload(gpu, noise(rows * columns), { shape: [rows, columns], label });
  const a = transposeA ? operand("a", k, m) : operand("a", m, k);
  const b = transposeB ? operand("b", n, k) : operand("b", k, n);
  const perStep = Math.max(1, Math.ceil(recorded / (2 * m * n * k)));
  const plan = repeated(planFor(gpu, [matmul(a, b, { transposeA, transposeB })]), perStep);
  const recording = await record(gpu, { plan, label: "product" });
  return {
    name: "Firn",
    side: PRODUCT,
    perStep,
    step: () => recording.replay(1),
    settle: () => settle(gpu),
    loss: null,
    memory: () => null,
    close() {
      recording.destroy();
      free({ a, b });
    },
  };
}

/** Numbers from -0.5 to 0.5 with random mantissas, as what a product costs in power depends on its bits. */
function noise(size: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(size);
  for (let i = 0, x = 1; i < size; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    values[i] = x / 2 ** 32 - 0.5;
  }
  return values;
}
