/**
 * The log of a run, its explanation, and the content of its report.
 *
 * @module
 */

import type { Cost } from "../plan/types.ts";
import type { Component, Reason, RunInfo } from "../policy.ts";
import type { Ending, FreezeEvent } from "../train/types.ts";
import type { Path } from "../tree.ts";

/** Measurements of a step. */
export interface MetricRow {
  /** 1-based number of the step. */
  readonly step: number;
  /** Loss of the step; NaN when the batch has no labels. */
  readonly loss: number;
  /** Absent where none was computed. */
  readonly validation?: number;
  /** NaN when the optimizer has none. */
  readonly learningRate: number;
  /** Absent where the run does not count tokens. */
  readonly tokensPerSecond?: number;
  /** Bytes on the device at the look; absent where the run does not count them. */
  readonly memoryBytes?: number;
  /** Further numbers of the loss, by name, such as the rewards of preferences; absent where it has none. */
  readonly metrics?: Readonly<Record<string, number>>;
  /** Milliseconds. */
  readonly stepMs: number;
  /** Floating-point operations. */
  readonly flops: number;
  /** Kernel launches of the step. */
  readonly launches: number;
  /** Components frozen during the step. */
  readonly frozen: number;
  /** Bytes that each of several ranks gave to be added up; absent where one process trains. */
  readonly exchanged?: number;
  /** Milliseconds in which that was on its way, and those of them after the backward pass: the others are hidden behind it. */
  readonly exchangeMs?: number;
  /** See `exchangeMs`. */
  readonly exchangeWaitedMs?: number;
}

/** Quality of a model, before or after a run. The task decides which fields are present. */
export interface Quality {
  /** Of held-out text. */
  readonly perplexity?: number;
  /** Generated text. */
  readonly sample?: string;
  /** Share of held-out images that were recognised. */
  readonly accuracy?: number;
}

/** First line: what the run was started with, and the model before it. */
export interface StartLine extends Quality {
  /** Marks the line. */
  readonly kind: "start";
  /** What the run was started with. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Name of the adapter. */
  readonly adapter: string;
  /** What the policy compares readings with; absent where it compares with nothing, or with several things. */
  readonly threshold?: Threshold;
}

/** A number that a policy compares a signal with. */
export interface Threshold {
  /** Name of the signal. */
  readonly signal: string;
  /** The number, above 0. */
  readonly tau: number;
}

/** What the policy may freeze, known after the first step. */
export interface ComponentsLine {
  /** Marks the line. */
  readonly kind: "components";
  /** Components in the model's order, with what they cost in a step. */
  readonly components: readonly Component[];
  /** What the policy was told of the run; absent in older logs. */
  readonly run?: RunInfo;
}

/** A step, and what the policy read in it. */
export interface StepLine extends Omit<MetricRow, "loss" | "learningRate"> {
  /** Marks the line. */
  readonly kind: "step";
  /** Null when the batch has no labels. */
  readonly loss: number | null;
  /** Null when the optimizer has none. */
  readonly learningRate: number | null;
  /** What clipping multiplied gradients by; absent where nothing clips, or in a step that changed nothing. */
  readonly clip?: number;
  /** True where the step changed nothing, as in `Look`; else absent. */
  readonly skipped?: true;
  /** By signal and component; only what was measured. */
  readonly readings: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

/** A change of the frozen set. */
export interface FreezeLine extends Omit<FreezeEvent, "reasons"> {
  /** Marks the line. */
  readonly kind: "freeze";
  /** Why each component was frozen, as far as the policy said; absent in older logs. */
  readonly reasons?: FreezeEvent["reasons"];
}

/** What the model is judged by while it trains. */
export interface EvaluationLine {
  /** Marks the line. */
  readonly kind: "evaluation";
  /** Step after which it was judged. */
  readonly step: number;
  /** Name of the set, where there are several. */
  readonly set?: string;
  /** By name, such as `loss`; null where one is not finite. */
  readonly metrics: Readonly<Record<string, number | null>>;
}

/** A text that the model wrote while it trained. */
export interface SampleLine {
  /** Marks the line. */
  readonly kind: "sample";
  /** Step after which it wrote it. */
  readonly step: number;
  /** The text. */
  readonly text: string;
}

/** Last line: the model after the run. */
export interface EndLine extends Quality {
  /** Marks the line. */
  readonly kind: "end";
  /** Absent in logs of before there was any. */
  readonly ending?: Ending;
}

/** Any line. */
export type Line =
  | StartLine
  | ComponentsLine
  | StepLine
  | FreezeLine
  | EvaluationLine
  | SampleLine
  | EndLine;

/** A component that was frozen or thawed. */
export interface Moved {
  /** Path of the component. */
  readonly path: Path;
  /** Why it was frozen; null when the log does not say. */
  readonly reason: Reason | null;
  /** Floating-point operations of its own gradient in a step, which freezing saves; null when the log does not say. */
  readonly flops: number | null;
  /** Of a component that thawed: steps that it was frozen for, where the log says since when. */
  readonly heldFor?: number;
}

/** What a step costs with one frozen set. */
export interface Paid {
  /** Launches and floating-point operations of products in a step. */
  readonly cost: Pick<Cost, "launches" | "matmulFlops">;
  /** Median of the measured milliseconds, without the first look; null when there was no other. */
  readonly stepMs: number | null;
}

/** A change of the frozen set. */
export interface Change {
  /** Step after which it holds. */
  readonly step: number;
  /** Components that were frozen. */
  readonly frozen: readonly Moved[];
  /** Components that thawed. */
  readonly thawed: readonly Moved[];
  /** What a step cost until then. */
  readonly before: Paid;
  /** What a step costs from then on. */
  readonly after: Paid;
}

/** All that is known about what a run froze. */
export interface Explanation {
  /** What the run was started with. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Name of the adapter. */
  readonly adapter: string;
  /** Steps in the log so far. */
  readonly steps: number;
  /** Steps that were planned; null when the log does not say. */
  readonly planned: number | null;
  /** Whether the log has its last line. */
  readonly finished: boolean;
  /** Why and where it ended; null when it did not, or the log does not say. */
  readonly ending: Ending | null;
  /** What was measured of the model before and after the run. */
  readonly quality: { readonly before: Quality; readonly after: Quality | null };
  /** Changes of the frozen set, in order. */
  readonly changes: readonly Change[];
  /** What is frozen at the end. */
  readonly frozen: readonly Path[];
  /** What is not, in the model's order. */
  readonly active: readonly Path[];
  /** Share of the elements of all components that are frozen at the end; null when the log does not say. */
  readonly share: number | null;
  /** Floating-point operations of the run, over those of as many steps without a freeze; null before the first step. */
  readonly flopShare: number | null;
}

/** The readings that a policy compared with a threshold. */
export interface Readings {
  /** Name of what was measured, for people. */
  readonly signal: string;
  /** Threshold, above 0, in the unit of the values. */
  readonly tau: number;
  /** What was read, by component and step. */
  readonly values: readonly { readonly path: string; readonly step: number; readonly value: number }[];
}

/** All that a report shows. */
export interface RunReport {
  /** Heading of the page. */
  readonly title: string;
  /** Label and value of the figures at the top, most important first. */
  readonly summary: readonly (readonly [label: string, value: string])[];
  /** What the run was started with; shown as JSON. */
  readonly config: Readonly<Record<string, unknown>>;
  /** One entry a step, in order. */
  readonly rows: readonly MetricRow[];
  /** Changes of the frozen set, in order. */
  readonly events: readonly Omit<FreezeEvent, "reasons">[];
  /** What `explain` says of the events, in the same order. */
  readonly changes?: readonly Change[];
  /** In model order. */
  readonly components: readonly Pick<Component, "path" | "layer" | "kind" | "size">[];
  /** Step after which each component was frozen; absent for those that never were. */
  readonly frozenAt: Readonly<Record<string, number>>;
  /** What the policy compared with a threshold; absent where there was none. */
  readonly readings?: Readings;
  /** Text generated before and after training. */
  readonly samples?: { readonly before: string; readonly after: string };
  /** Texts that the model wrote while it trained, in order; of a run that is under way, with that of before. */
  readonly written?: readonly { readonly step: number; readonly text: string }[];
  /** What was measured on sets while it trained, in order. */
  readonly evaluations?: readonly Pick<EvaluationLine, "step" | "set" | "metrics">[];
  /** Perplexity of held-out text before and after training. */
  readonly perplexity?: { readonly before: number; readonly after: number };
}
