/**
 * Which freeze policy the study recommends for a kind of task. All that stands here is taken from `tests/bench/STUDY.md`, and is
 * null where that has no verdict.
 *
 * @module
 */

/** What is trained, and on what. */
export interface TaskKind {
  /** All weights, or a LoRA adapter. */
  readonly trains: "full" | "lora";
  /** The next token, or a class. */
  readonly predicts: "causal" | "classify";
}

/** A verdict of the study. */
export interface Verdict {
  /** What to give to `--policy`; `none` where no policy is worth its place. */
  readonly policy: string;
  /** A sentence of the study's conclusions that says so, word for word. */
  readonly because: string;
}

/** The verdicts. */
export const VERDICTS: Readonly<
  Record<TaskKind["trains"], Readonly<Record<TaskKind["predicts"], Verdict | null>>>
> = {
  full: { causal: null, classify: null },
  lora: { causal: null, classify: null },
};

/** Kinds of task in words. */
const WORDS = {
  full: "full fine-tuning",
  lora: "LoRA",
  causal: "the next token",
  classify: "classes",
} as const;

/**
 * Says what the study recommends.
 *
 * @param kind What is trained, and on what
 * @param verdicts The verdicts; those of the study when absent
 * @returns One line
 */
export function recommendation(kind: TaskKind, verdicts: typeof VERDICTS = VERDICTS): string {
  const task = `${WORDS[kind.trains]} on ${WORDS[kind.predicts]}`,
    verdict = verdicts[kind.trains][kind.predicts];
  return verdict === null
    ? `no policy yet for ${task}: the study, tests/bench/STUDY.md, has no verdict`
    : `--policy ${verdict.policy} for ${task}: ${verdict.because} (tests/bench/STUDY.md)`;
}
