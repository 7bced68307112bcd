/**
 * How good a classifier is: accuracy, F1 and the confusion matrix.
 *
 * @module
 */

/** Counts of examples by class and prediction. */
export interface Scores {
  /** Share of examples whose class was predicted. */
  readonly accuracy: number;
  /** F1 of each class: the harmonic mean of precision and recall; 0 where nothing was found. */
  readonly f1: readonly number[];
  /** The mean of them. */
  readonly macroF1: number;
  /** Row by class, column by prediction. */
  readonly confusion: readonly (readonly number[])[];
}

/**
 * Scores predictions.
 *
 * @param labels Classes from 0
 * @param predicted Predicted classes, one for each label
 * @param classes How many classes there are
 * @returns The scores
 */
export function scoresOf(labels: ArrayLike<number>, predicted: ArrayLike<number>, classes: number): Scores {
  const confusion = Array.from({ length: classes }, () => Array<number>(classes).fill(0));
  for (let i = 0; i < labels.length; i++) confusion[labels[i]][predicted[i]]++;
  const hits = confusion.map((row, k) => row[k]);
  const f1 = hits.map((hit, k) => {
    const real = confusion[k].reduce((a, b) => a + b), found = confusion.reduce((n, row) => n + row[k], 0);
    return hit === 0 ? 0 : 2 * hit / (real + found);
  });
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  return { accuracy: sum(hits) / labels.length, f1, macroF1: sum(f1) / classes, confusion };
}

/**
 * Writes a confusion matrix as lines.
 *
 * @param scores The scores
 * @param names Names of the classes
 * @returns A heading, and a line for each class
 */
export function confusionLines({ confusion, f1 }: Scores, names: readonly string[]): string[] {
  const width = Math.max(6, ...names.map((name) => name.length)) + 2;
  const heading = "class \\ said".padEnd(15) + [...names, "F1"].map((name) => name.padStart(width)).join("");
  const rows = confusion.map((row, k) =>
    names[k].padEnd(15) + row.map((n) => String(n).padStart(width)).join("") +
    (100 * f1[k]).toFixed(1).padStart(width)
  );
  return [heading, ...rows];
}
