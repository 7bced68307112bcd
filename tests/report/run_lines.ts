/**
 * Logs of made-up runs.
 *
 * @module
 */

import type { Component } from "@firn/train";
import type { FreezeLine, Line, StartLine, StepLine } from "@firn/train/report";

/** Cost of a step. */
export const COST: FreezeLine["before"] = {
  launches: 5,
  flops: 1e6,
  matmulFlops: 1e6,
  bytes: 1,
  memory: 1,
  constants: 0,
};

/** First line. */
export function startLine(more: Partial<StartLine> = {}): StartLine {
  return { kind: "start", config: { model: "llama", steps: 40 }, adapter: "a GPU", ...more };
}

/** Two components; the first has three of four elements. */
export const PARTS: Line = {
  kind: "components",
  components: ["a", "b"].map((path, layer): Component => ({
    path,
    layer,
    parameters: [path],
    kind: "linear",
    size: 3 - 2 * layer,
  })),
};

/** A step whose loss is one over its number. */
export function stepLine(step: number, more: Partial<StepLine> = {}): StepLine {
  const pace = { stepMs: 20, launches: 5, flops: 1e6, frozen: 0 };
  const readings = { gradNorm: { a: 4 / step, b: 8 / step } };
  return { kind: "step", step, loss: 1 / step, learningRate: 0.5, ...pace, readings, ...more };
}

/** Steps from one to another. */
export function stepLines(from: number, to: number, more: Partial<StepLine> = {}): StepLine[] {
  return Array.from({ length: to - from + 1 }, (_, i) => stepLine(from + i, more));
}

/** The freeze of the first component. */
export function freezeLine(step: number): FreezeLine {
  const reasons = { a: { signal: "gradNorm", value: 0.9, threshold: 1, rule: "below(gradNorm, 1)" } };
  return { kind: "freeze", step, frozen: ["a"], thawed: [], before: COST, after: COST, reasons };
}

/** Lines as they stand in a file. */
export function textOf(lines: readonly Line[]): string {
  return lines.map((line) => JSON.stringify(line) + "\n").join("");
}
