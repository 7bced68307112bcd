/**
 * Which freeze policy the study recommends for a kind of task. All that stands in {@link VERDICTS} is taken from
 * `tests/bench/STUDY.md`: a list is empty where that has no verdict, and a test compares each sentence with it.
 *
 * @module
 */

/** What is trained, and on what. */
export interface TaskKind {
  /** All weights, or a LoRA adapter. */
  readonly trains: "full" | "lora";
  /** The next token, or a class. */
  readonly predicts: "causal" | "classify";
  /** Planned steps. */
  readonly steps: number;
  /** Passes over the data; null where nobody knows. */
  readonly epochs: number | null;
}

/** A verdict of the study. */
export interface Verdict {
  /** Passes over the data from which on it holds; any number when absent. */
  readonly epochs?: number;
  /** What to give to `--policy`; `none` where no policy is worth its place. */
  readonly policy: string;
  /** What to give to `--steps`, as a share of the steps; as many when absent. */
  readonly steps?: number;
  /** How many times as high as the rate of all steps `--lr` was; as high when absent. */
  readonly rate?: number;
  /** Further flags; none when absent. */
  readonly flags?: string;
  /** A sentence of the study that says so, word for word. */
  readonly because: string;
  /** A sentence of the study that limits it, word for word; none when absent. */
  readonly but?: string;
}

/** Verdicts by kind of task. Of several the first one that holds counts. */
export type Verdicts = Readonly<
  Record<TaskKind["trains"], Readonly<Record<TaskKind["predicts"], readonly Verdict[]>>>
>;

/** Of a few hundred instructions, seen several times, all weights and adapters learn enough in half of the steps at a higher rate. */
const FEWER: Verdict = {
  epochs: 3,
  policy: "none",
  steps: 0.5,
  rate: 3,
  because: "On instructions half of the steps, at a higher rate, end at least as well as all of them.",
};

/** The verdicts. */
export const VERDICTS: Verdicts = {
  full: {
    causal: [FEWER],
    classify: [{
      epochs: 3,
      policy: "bottomFreeze",
      flags: "--cache-prefix --dropout 0",
      because: "On banking77 a shorter run loses accuracy, and freezing the lower half loses less.",
      but: "By the clock, nothing that freezes beats training for a shorter time on any of the eight tasks.",
    }],
  },
  lora: { causal: [FEWER], classify: [] },
};

/** Kinds of task in words. */
const WORDS = {
  full: "full fine-tuning",
  lora: "LoRA",
  causal: "the next token",
  classify: "classes",
} as const;

/** Share of the steps of a shorter run, which is what a policy has to beat. */
const SHORTER = 0.75;

/**
 * Says what the study recommends.
 *
 * @param kind What is trained, on what, and for how long
 * @param verdicts The verdicts; those of the study when absent
 * @returns One line
 */
export function recommendation(kind: TaskKind, verdicts: Verdicts = VERDICTS): string {
  const { trains, predicts, epochs } = kind, task = `${WORDS[trains]} on ${WORDS[predicts]}`;
  const all = verdicts[trains][predicts], verdict = all.find((one) => (epochs ?? 1) >= (one.epochs ?? 0));
  if (verdict === undefined) {
    const fewer = all.length === 0
      ? ""
      : ` in fewer than ${Math.min(...all.map((one) => one.epochs!))} epochs`;
    return `no policy yet for ${task}${fewer}: the study, tests/bench/STUDY.md, has no verdict. ` +
      `What one has to beat is a shorter run: ${flagsOf({ policy: "none", steps: SHORTER }, kind)}`;
  }
  const several = verdict.epochs === undefined ? "" : ` in ${verdict.epochs} epochs or more`;
  const rate = verdict.rate === undefined ? "" : ` and ${verdict.rate} times the --lr`;
  const why = [verdict.because, ...verdict.but === undefined ? [] : [verdict.but]].join(" ");
  return `${flagsOf(verdict, kind)}${rate}, for ${task}${several}: ${why} (tests/bench/STUDY.md)`;
}

/** The flags of a verdict. */
function flagsOf(
  { policy, steps, flags }: Pick<Verdict, "policy" | "steps" | "flags">,
  { steps: planned }: Pick<TaskKind, "steps">,
): string {
  const length = steps === undefined ? [] : [`--steps ${Math.max(1, Math.round(steps * planned))}`];
  return [`--policy ${policy}`, ...length, ...flags === undefined ? [] : [flags]].join(" ");
}
