/**
 * Evaluation while a model trains: several sets and metrics, the best step, and when to stop.
 *
 * Two small parts that ordinary code in the loop of `scan` joins: {@link evaluator} judges states without changing a bit of
 * the run, and {@link followBest} is a reducer over what it found.
 *
 * ```ts
 * import { adamW, defineTraining, nextTokenLoss, openGpu, scan } from "@firn/train";
 * import { loadTokenizer, packDocuments, tokenWindows } from "@firn/train/data";
 * import { evaluator, followBest, lossMetrics } from "@firn/train/evaluation";
 * import { loadModel } from "@firn/train/hub";
 *
 * await using gpu = await openGpu();
 * const folder = "examples/models/sotu";
 * const model = await loadModel(gpu, folder), tokenizer = await loadTokenizer(folder);
 * const windows = (text: string) => tokenWindows(packDocuments(tokenizer, Array(20).fill(text)), { length: 8, batch: 1 });
 * const batches = windows("Call me Ishmael."), loss = nextTokenLoss(model), steps = 2;
 * const training = defineTraining(gpu, loss, { optimizer: adamW({ learningRate: 1e-3 }), steps });
 * const sets = { "held-out": windows("Some years ago.").all().slice(0, 2) };
 * const judge = evaluator(gpu, training, { sets, metrics: lossMetrics(loss), every: 0.5, steps });
 * const follow = followBest({ metric: "held-out/loss", patience: 3 });
 * let best = follow.init;
 * for await (const state of scan(training, await training.init(model.params), batches.from(1))) {
 *   const evaluation = await judge.after(state);
 *   if (evaluation === null) continue;
 *   best = follow.next(best, evaluation);
 *   // Where best.step is state.step, this is the best state so far: save it, or keep a snapshot(state).
 *   if (best.stop) break;
 * }
 * console.log(`${best.value} after step ${best.step}`);
 * ```
 *
 * @module
 */

export { evaluateMetrics } from "./evaluate_metrics.ts";
export { type Evaluation, type Evaluator, evaluator, type EvaluatorOptions } from "./evaluator.ts";
export { type Best, type BestReducer, followBest, type FollowBestOptions } from "./follow_best.ts";
export { classAccuracy, lossMetrics, type Metric, type Metrics } from "./metrics.ts";
