/**
 * Whether a measure stays the same over a run.
 *
 * @module
 */

/** What is measured after a collection of garbage. */
export interface Sample {
  readonly step: number;
  /** Bytes of JavaScript objects. */
  readonly objects: number;
  /** Bytes of compiled code. */
  readonly code: number;
  /** Bytes of typed arrays and the like. */
  readonly external: number;
  /** Bytes of the process in memory. */
  readonly rss: number;
  /** Buffers that the device holds. */
  readonly buffers: number;
  /** Bytes of buffers that nothing has destroyed. */
  readonly device: number;
  /** Open files and sockets. */
  readonly handles: number;
}

/** A measure. */
export type Measure = Exclude<keyof Sample, "step">;

/** The part of the samples that is not judged: until then, plans are made and kernels compiled. */
const WARM_UP = 0.25;

/** Fewer steps are too few for measures that a runtime moves up and down by itself. */
const LONG = 2000;

/**
 * By how much each measure may grow in 1,000 steps. What is counted may not grow at all. Objects and what is outside the
 * heap may by 64 bytes a step; code may as long as V8 still compiles parts of the program anew; the process may by what the
 * allocators of V8 and of the driver move about.
 */
export const BOUNDS: Readonly<Record<Measure, number>> = {
  objects: 64_000,
  code: 2 ** 19,
  external: 64_000,
  rss: 2 ** 22,
  buffers: 0,
  device: 0,
  handles: 0,
};

/** The measures, in the order of the table. */
export const MEASURES: readonly Measure[] = Object.keys(BOUNDS) as Measure[];

/**
 * How much a measure grows in 1,000 steps after the warm-up: the median of the slopes between all pairs of samples
 * (Theil 1950, Sen 1968), which a few samples out of line do not move.
 *
 * @param samples The samples, in order
 * @param measure The measure
 * @returns Its growth in 1,000 steps; NaN for fewer than two samples
 */
export function growth(samples: readonly Sample[], measure: Measure): number {
  const last = samples.at(-1)?.step ?? 0, judged = samples.filter(({ step }) => step >= WARM_UP * last);
  const slopes = judged.flatMap((a, i) =>
    judged.slice(i + 1).map((b) => 1000 * (b[measure] - a[measure]) / (b.step - a.step))
  ).sort((a, b) => a - b);
  const middle = slopes.length / 2;
  return slopes.length === 0 ? NaN : (slopes[Math.ceil(middle) - 1] + slopes[Math.floor(middle)]) / 2;
}

/** The measures that grow by more than their bounds. A run of less than 2,000 steps is judged by what is counted. */
export function growing(samples: readonly Sample[]): readonly Measure[] {
  return MEASURES.filter((measure) =>
    isJudged(samples, measure) && !(growth(samples, measure) <= BOUNDS[measure])
  );
}

function isJudged(samples: readonly Sample[], measure: Measure): boolean {
  return BOUNDS[measure] === 0 || (samples.at(-1)?.step ?? 0) >= LONG;
}

const NAMES: Readonly<Record<Measure, string>> = {
  objects: "objects KiB",
  code: "code KiB",
  external: "external KiB",
  rss: "RSS MiB",
  buffers: "buffers",
  device: "device KiB",
  handles: "handles",
};
const UNITS: Readonly<Record<Measure, number>> = {
  objects: 2 ** 10,
  code: 2 ** 10,
  external: 2 ** 10,
  rss: 2 ** 20,
  buffers: 1,
  device: 2 ** 10,
  handles: 1,
};

const cell = (text: string): string => text.padStart(13);
const shown = (value: number, measure: Measure): string =>
  cell(Number.isNaN(value) ? "–" : (value / UNITS[measure]).toFixed(UNITS[measure] === 1 ? 0 : 1));

/** The first line of the table. */
export const HEAD: string = cell("step") + MEASURES.map((measure) => cell(NAMES[measure])).join("");

/** The line of a sample. */
export function lineOf(sample: Sample): string {
  return cell(`${sample.step}`) + MEASURES.map((measure) => shown(sample[measure], measure)).join("");
}

/** The last lines of the table: growth in 1,000 steps, and its bounds. */
export function lastLines(samples: readonly Sample[]): readonly string[] {
  const line = (name: string, of: (measure: Measure) => number): string =>
    cell(name) + MEASURES.map((measure) => shown(of(measure), measure)).join("");
  const limit = (measure: Measure): number => isJudged(samples, measure) ? BOUNDS[measure] : NaN;
  return [
    line("per 1,000", (measure) => growth(samples, measure)),
    line("at most", limit),
  ];
}
