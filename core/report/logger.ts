/**
 * Loggers: functions that are handed what a run measures, as numbers and texts by name. Any service can be one.
 *
 * @module
 */

import type { Component } from "../policy.ts";
import { freezeText } from "./cost_text.ts";
import type { Line, Quality, StepLine } from "./types.ts";

/** What was measured at a step. */
export interface LogRecord {
  /** 1-based number of the step; 0 before the first one. */
  readonly step: number;
  /** Numbers by name, such as `train/loss`; only what was measured, though a number may be NaN. */
  readonly numbers: Readonly<Record<string, number>>;
  /** Texts by name, such as `sample`. */
  readonly texts: Readonly<Record<string, string>>;
}

/**
 * Takes the records that come at once, as those of the steps of a look, in the order of steps. A run waits for it, and ends with
 * its error when it throws.
 */
export type Logger = (records: readonly LogRecord[]) => void | Promise<void>;

/**
 * Makes a function that turns the lines of a log into records.
 *
 * Names are those of the Trainer of transformers: `train/loss`, `train/learning_rate`, `eval/loss`, `train/tokens_per_second`,
 * `train/clip`, `train/step_ms`, `train/memory_bytes`, `train/flops`, `train/launches`, `train/exchanged_bytes`, `train/exchange_ms` and `train/exchange_waited_ms` of several ranks, `train/frozen` and `train/frozen_share`, and what else a loss has, such as `train/rewards/margins`. Texts are
 * `configuration`, `sample` and `freeze`.
 *
 * @param before Lines that need no record: those of a run that goes on
 * @returns A function from a line to its record; null for a line without numbers and texts
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { recorder } from "@firn/train/report";
 *
 * const recordOf = recorder();
 * assertEquals(recordOf({ kind: "evaluation", step: 5, set: "easy", metrics: { accuracy: 0.5 } }), {
 *   step: 5,
 *   numbers: { "eval/easy/accuracy": 0.5 },
 *   texts: {},
 * });
 * ```
 */
export function recorder(before: readonly Line[] = []): (line: Line) => LogRecord | null {
  let sizes = new Map<string, number>(), last = 0;
  const frozen = new Set<string>();
  const total = (paths: Iterable<string>): number =>
    [...paths].reduce((n, path) => n + (sizes.get(path) ?? 0), 0);
  const share = (): Record<string, number> =>
    sizes.size === 0 ? {} : { "train/frozen_share": total(frozen) / total(sizes.keys()) };
  const recordOf = (line: Line): LogRecord | null => {
    if ("step" in line) last = line.step;
    switch (line.kind) {
      case "start":
        return record(0, qualityOf(line), {
          configuration: "```json\n" + JSON.stringify(line.config, null, 2) + "\n```",
          ...textOf(line),
        });
      case "components":
        sizes = sizesOf(line.components);
        return null;
      case "step":
        return record(line.step, { ...stepNumbers(line), ...share() });
      case "freeze":
        for (const path of line.thawed) frozen.delete(path);
        for (const path of line.frozen) frozen.add(path);
        return record(line.step, share(), { freeze: freezeText({ reasons: {}, ...line }) });
      case "evaluation":
        return record(line.step, evaluationNumbers(line.set, line.metrics));
      case "sample":
        return record(line.step, {}, { sample: line.text });
      case "end":
        return record(last, qualityOf(line), textOf(line));
    }
  };
  for (const line of before) recordOf(line);
  return recordOf;
}

function sizesOf(components: readonly Pick<Component, "path" | "size">[]): Map<string, number> {
  return new Map(components.map(({ path, size }) => [path, size]));
}

function record(
  step: number,
  numbers: LogRecord["numbers"],
  texts: LogRecord["texts"] = {},
): LogRecord | null {
  return Object.keys(numbers).length + Object.keys(texts).length === 0 ? null : { step, numbers, texts };
}

function stepNumbers(line: StepLine): Record<string, number> {
  const {
    loss,
    learningRate,
    clip,
    validation,
    tokensPerSecond,
    memoryBytes,
    stepMs,
    flops,
    launches,
    exchanged,
    exchangeMs,
    exchangeWaitedMs,
    metrics = {},
  } = line;
  return {
    // A loss that is absent had no labels; one that is not a number is null in a log, too.
    ...loss !== null && { "train/loss": loss },
    ...learningRate !== null && { "train/learning_rate": learningRate },
    ...Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`train/${name}`, value])),
    ...clip !== undefined && { "train/clip": clip },
    ...validation !== undefined && { "eval/loss": validation },
    ...tokensPerSecond !== undefined && { "train/tokens_per_second": tokensPerSecond },
    "train/step_ms": stepMs,
    ...memoryBytes !== undefined && { "train/memory_bytes": memoryBytes },
    "train/flops": flops,
    "train/launches": launches,
    "train/frozen": line.frozen,
    ...exchanged !== undefined && { "train/exchanged_bytes": exchanged },
    ...exchangeMs !== undefined && { "train/exchange_ms": exchangeMs },
    ...exchangeWaitedMs !== undefined && { "train/exchange_waited_ms": exchangeWaitedMs },
  };
}

function evaluationNumbers(
  set: string | undefined,
  metrics: Readonly<Record<string, number | null>>,
): Record<string, number> {
  const prefix = set === undefined ? "eval" : `eval/${set}`;
  return Object.fromEntries(
    Object.entries(metrics).flatMap(([name, value]) => value === null ? [] : [[`${prefix}/${name}`, value]]),
  );
}

function qualityOf({ perplexity, accuracy }: Quality): Record<string, number> {
  return {
    ...perplexity !== undefined && { "eval/perplexity": perplexity },
    ...accuracy !== undefined && { "eval/accuracy": accuracy },
  };
}

function textOf({ sample }: Quality): Record<string, string> {
  return sample === undefined ? {} : { sample };
}

/** Hands the records of lines to a logger. */
export async function logLines(
  lines: readonly Line[],
  { recordOf, logger }: { readonly recordOf: (line: Line) => LogRecord | null; readonly logger: Logger },
): Promise<void> {
  const records = lines.flatMap((line) => recordOf(line) ?? []);
  if (records.length > 0) await logger(records);
}
