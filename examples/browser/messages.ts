/**
 * What the page and its worker tell each other.
 *
 * @module
 */

import type { Line } from "@firn/train/report";
import type { RunRecord } from "./settings.ts";

/** A file that a person gave. */
export interface Given {
  readonly name: string;
  readonly content: Blob;
}

/** What is known of a run before its first step. */
export type Facts = readonly (readonly [label: "Model" | "Text" | "Learning rate", text: string])[];

/** To the worker. */
export type Ask =
  /** Begins a run: files of the model, none for the page's own, and the text. */
  | {
    readonly kind: "start";
    readonly record: RunRecord;
    readonly model: readonly Given[];
    readonly text: Blob;
  }
  /** Goes on with the run that is kept in this browser. */
  | { readonly kind: "continue" }
  /** Ends the run, and removes what is kept of it. */
  | { readonly kind: "forget" }
  | { readonly kind: "pause" }
  | { readonly kind: "resume" }
  /** Writes a sample before the next step. */
  | { readonly kind: "sample" }
  /** Hands over the model or the adapter as it is before the next step. */
  | { readonly kind: "download" };

/** A run that is kept in this browser. */
export interface KeptRun {
  readonly record: RunRecord;
  readonly step: number;
}

/** Why nothing can be trained here: the address is not a safe one, or WebGPU, an adapter or the folder of runs is missing. */
export type Lack = "secure" | "webgpu" | "adapter" | "folder";

/**
 * What the worker does: it waits for a run, prepares one, takes steps, waits between two, or has taken all. A run that failed may
 * be kept.
 */
export type Phase = "idle" | "preparing" | "running" | "paused" | "done" | "failed";

/** From the worker. */
export type Tell =
  | { readonly kind: "missing"; readonly lack: Lack; readonly detail: string }
  /** `lasting`: whether a run survives the page. */
  | {
    readonly kind: "ready";
    readonly adapter: string;
    readonly software: boolean;
    readonly lasting: boolean;
  }
  | { readonly kind: "kept"; readonly run: KeptRun | null }
  | { readonly kind: "phase"; readonly phase: Phase }
  | { readonly kind: "status"; readonly text: string }
  | { readonly kind: "facts"; readonly facts: Facts }
  /** Lines of the log: new ones, or all that there are. */
  | { readonly kind: "lines"; readonly lines: readonly Line[]; readonly all: boolean }
  | { readonly kind: "step"; readonly step: number; readonly steps: number }
  /** A sample as far as it is written; `when` is "before", "after", or names the step. */
  | { readonly kind: "sample"; readonly when: string; readonly text: string; readonly whole: boolean }
  | { readonly kind: "file"; readonly name: string; readonly content: Blob }
  /** `expected`: whether a person can act on it. */
  | { readonly kind: "error"; readonly message: string; readonly expected: boolean };
