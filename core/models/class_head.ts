/**
 * Heads for classes: what `config.json` says of labels.
 *
 * @module
 */

import type { ConfigReader } from "./config_reader.ts";

/** What the scores of a head for classes mean, in the words of `config.json`. */
export type ProblemType = "single_label_classification" | "multi_label_classification" | "regression";

/** The part of `config.json` that heads for classes depend on. */
export interface ClassConfig {
  /** Scores of a row: classes, or values of a regression. */
  readonly classes: number;
  /** What they mean; null where the labels tell: i32 names one class, f32 says of each class whether it applies. */
  readonly problem: ProblemType | null;
}

const PROBLEMS: readonly string[] = [
  "single_label_classification",
  "multi_label_classification",
  "regression",
];

/** Classes of a model whose configuration names none, as in `transformers`. */
const DEFAULT_CLASSES = 2;

/**
 * Reads classes and what their scores mean.
 *
 * @param read The configuration
 * @returns `id2label` or `num_labels`, and `problem_type`
 * @throws {InputError} When both numbers of labels differ, or the problem type is none
 */
export function readClasses(read: ConfigReader): ClassConfig {
  const labels = read.record("id2label");
  const named = labels === null ? undefined : Object.keys(labels).length;
  if (named === 0) throw read.error("id2label", "it must have an entry", labels);
  const classes = read.count("num_labels", named ?? DEFAULT_CLASSES);
  if (named !== undefined && classes !== named) {
    throw read.error("num_labels", `it must be the number of entries of id2label, ${named}`, classes);
  }
  const type = read.string("problem_type", "");
  if (type !== "" && !PROBLEMS.includes(type)) {
    throw read.error("problem_type", `it must be one of ${PROBLEMS.join(", ")}`, type);
  }
  // In transformers, one label without a problem type is a regression.
  const problem = type === "" ? (classes === 1 ? "regression" : null) : type as ProblemType;
  return { classes, problem };
}
