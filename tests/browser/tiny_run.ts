/**
 * One small run of everything a page would do: a new Llama is trained, evaluated, and writes some tokens.
 *
 * @module
 */

import { llamaSource } from "../train/tiny.ts";
import type * as page from "./page.ts";

/** What a run gives. */
export interface TinyRun {
  /** Of each step. */
  readonly losses: readonly number[];
  readonly evaluated: readonly number[];
  readonly generated: readonly number[];
  /** Values of all parameters in the end. */
  readonly params: Float32Array;
  /** The most storage buffers that a kernel of a step binds. */
  readonly bindings: number;
}

const STEPS = 3;

/**
 * Trains, evaluates and generates.
 *
 * @param module What a page imports, or a bundle of it
 * @param gpu A device of that module
 * @returns What came of it
 */
export async function tinyRun(module: typeof page, gpu: page.Gpu): Promise<TinyRun> {
  const { adamW, chain, clipByGlobalNorm, defineTraining, evaluate, flatten, generate } = module;
  const { newModel, nextTokenLoss, readAll, scan, tensor } = module;
  const model = await newModel(gpu, { source: llamaSource({ layers: 2, tied: true }), seed: 1 });
  const loss = nextTokenLoss(model);
  const training = defineTraining(gpu, loss, {
    optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 1e-2, weightDecay: 0.1 })),
    steps: STEPS,
    lookEvery: STEPS,
  });
  // A tensor belongs to the module that made it.
  const batches = Array.from({ length: STEPS }, (_, step) => {
    const ids = tensor(Int32Array.from({ length: 24 }, (_, i) => (i * 7 + step * 13) % 64), [2, 12]);
    return { inputIds: ids, labels: ids };
  });
  let last = await training.init(model.params);
  for await (const state of scan(training, last, batches)) last = state;
  const { params } = last;
  const generated: number[] = [];
  const trained = { ...model, params };
  for await (const id of generate(gpu, trained, { prompt: [1, 8, 15], maxTokens: 4, temperature: 0 })) {
    generated.push(id);
  }
  const values = await readAll(gpu, [...flatten(params).values()]);
  return {
    losses: [...last.look!.loss],
    evaluated: (await evaluate(gpu, { loss, params, batches })).losses,
    generated,
    params: Float32Array.from(values.flatMap((part) => [...part])),
    bindings: Math.max(...[...gpu.pipelines.keys()].map((code) => code.match(/var<storage/g)?.length ?? 0)),
  };
}

/**
 * The largest difference between two runs, as a share of the largest value.
 *
 * @param a A run
 * @param b Another
 * @returns Of losses and of parameters, whichever is larger
 */
export function differenceOf(a: TinyRun, b: TinyRun): number {
  const shares = (["losses", "evaluated", "params"] as const).map((key) => {
    const [one, other] = [Array.from(a[key]), Array.from(b[key])];
    const most = Math.max(...one.map(Math.abs));
    return Math.max(...one.map((x, i) => Math.abs(x - other[i]) / most));
  });
  return Math.max(...shares);
}
