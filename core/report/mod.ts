/**
 * Observing runs: their log, why each component froze, and pages with plots, of one run (`renderReport`), of one that is under
 * way (`watchHandler`) or of several (`renderComparison`). A `logger` hands what a run measures to TensorBoard
 * (`tensorBoardLogger`) or to any function. The same log, `metrics.jsonl`, is what all of them are made of.
 *
 * ```ts
 * import { assertEquals, assertStringIncludes } from "@std/assert";
 * import { adamW, defineTraining, mean, multiply, openGpu, scan, type Tensor, tensor } from "@firn/train";
 * import { memoryFileSystem } from "@firn/train/data";
 * import { explain, explanationText, openLog, renderReport, reportOf, stepLines } from "@firn/train/report";
 *
 * await using gpu = await openGpu();
 * const training = defineTraining(gpu, (params: { w: Tensor }) => mean(multiply(params.w, params.w)), {
 *   optimizer: adamW({ learningRate: 0.1 }),
 *   steps: 4,
 *   lookEvery: 2,
 * });
 * const fileSystem = memoryFileSystem(); // hostFileSystem() writes to the disk
 * const log = await openLog("metrics.jsonl", { fileSystem });
 * await log.add([{ kind: "start", config: { steps: 4 }, adapter: gpu.name }]);
 * const first = await training.init({ w: tensor([1, 2, 3, 4]) });
 * for await (const state of scan(training, first, [{}, {}, {}, {}])) {
 *   if (state.look !== null) await log.add(stepLines(state, { stepMs: 1 }));
 * }
 * await log.add([{ kind: "end" }]);
 * assertEquals(explain(log.lines).steps, 4);
 * assertStringIncludes(explanationText(explain(log.lines), { color: false }), "4 of 4 steps");
 * const page = await renderReport(reportOf(log.lines, { title: "A run", summary: [], components: [] }));
 * await fileSystem.write("report.html", page);
 * assertStringIncludes(page, "<h1>A run</h1>");
 * ```
 *
 * @module
 */

export {
  bytesText,
  change,
  costText,
  endingText,
  flopText,
  freezeText,
  memoryText,
  percent,
} from "./cost_text.ts";
export { type ExchangePace, exchangePace } from "./exchange_pace.ts";
export { explain } from "./explain.ts";
export { type Forecast, type FreezeSavings, freezeSavings } from "./freeze_savings.ts";
export { freezeLegend } from "./freeze_legend.ts";
export { type FreezeSpan, type FreezeSpans, freezeSpans } from "./freeze_spans.ts";
export { counted } from "../counted.ts";
export { explanationText, type Style } from "./explanation_text.ts";
export { logged, type LoggedOptions } from "./logged.ts";
export { type Logger, type LogRecord, recorder } from "./logger.ts";
export { type CardFacts, modelCard } from "./model_card.ts";
export { printable } from "./printable.ts";
export { type FollowedLog, followLog, readLog } from "./read_log.ts";
export type { NamedRun } from "./compared_run.ts";
export { type ComparisonOptions, isComparison, renderComparison } from "./render_comparison.ts";
export { renderReport } from "./render_report.ts";
export { reportOf, type ReportOptions } from "./report_of.ts";
export { reportPlots } from "./report_plots.ts";
export type { Plot } from "./plots.ts";
export { type Replay, replayOf } from "./replay_of.ts";
export { componentsLine, type LogOptions, openLog, type RunLog, stepLines } from "./run_log.ts";
export { tensorBoardLogger, type TensorBoardOptions } from "./tensorboard.ts";
export { type LossLines, lossLines } from "./step_plots.ts";
export type { Point } from "./numbers.ts";
export { STYLE as reportStyle } from "./style.ts";
export { reasonsHtml } from "./tables.ts";
export * from "./types.ts";
export { watchHandler } from "./watch.ts";
