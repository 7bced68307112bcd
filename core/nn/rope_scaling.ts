/**
 * How rotary frequencies change for sequences longer than in pretraining.
 *
 * @module
 */

/** Every frequency is divided: positions are interpolated. */
export interface LinearScaling {
  /** Which rule it is. */
  readonly type: "linear";
  /** Divisor. */
  readonly factor: number;
}

/** The base grows with the sequence once it is longer than in pretraining ("dynamic NTK"). */
export interface DynamicScaling {
  /** Which rule it is. */
  readonly type: "dynamic";
  /** How fast the base grows. */
  readonly factor: number;
  /** Positions that the model was pretrained on. */
  readonly originalLength: number;
}

/** Interpolation between frequencies as they are and divided by a factor, as in Llama 3.1. */
export interface Llama3Scaling {
  /** Which rule it is. */
  readonly type: "llama3";
  /** Divisor of low frequencies. */
  readonly factor: number;
  /** A frequency with fewer periods than this in the original length is divided. */
  readonly lowFreqFactor: number;
  /** A frequency with more periods than this in the original length stays. */
  readonly highFreqFactor: number;
  /** Positions that the model was pretrained on. */
  readonly originalLength: number;
}

/** A ramp over the pairs of channels between frequencies as they are and divided by a factor. */
export interface YarnScaling {
  /** Which rule it is. */
  readonly type: "yarn";
  /** Divisor of low frequencies. */
  readonly factor: number;
  /** Periods in the original length above which a frequency stays, 32 in the paper. */
  readonly betaFast: number;
  /** Periods in the original length below which a frequency is divided, 1 in the paper. */
  readonly betaSlow: number;
  /** Whether the ends of the ramp are rounded to whole pairs. */
  readonly truncate: boolean;
  /** Factor of cosines and sines. */
  readonly attentionFactor: number;
  /** Positions that the model was pretrained on. */
  readonly originalLength: number;
}

/** Each frequency has a divisor of its own, one for short sequences and one for long ones. */
export interface LongRopeScaling {
  /** Which rule it is. */
  readonly type: "longrope";
  /** Divisors of sequences up to the original length, one for each pair. */
  readonly shortFactor: readonly number[];
  /** Divisors of longer sequences, one for each pair. */
  readonly longFactor: readonly number[];
  /** Factor of cosines and sines. */
  readonly attentionFactor: number;
  /** Positions that the model was pretrained on. */
  readonly originalLength: number;
}

/** How frequencies change for sequences longer than in pretraining. */
export type RopeScaling = LinearScaling | DynamicScaling | Llama3Scaling | YarnScaling | LongRopeScaling;

/** Base, rotated elements, and the length of the sequence. */
interface Turn {
  readonly theta: number;
  readonly dim: number;
  readonly length: number;
}

/**
 * Frequencies of one kind of scaling.
 *
 * Sources: Chen et al., arXiv 2306.15595 (linear); Peng et al., "YaRN", arXiv 2309.00071, section 3; Ding et al.,
 * "LongRoPE", arXiv 2402.13753; for all of them `modeling_rope_utils.py` of `transformers`.
 *
 * @param scaling The kind and its numbers
 * @param turn Base, rotated elements of a head, and the length of the sequence
 * @returns Radians a position, dim / 2 numbers
 */
export function scaledFrequencies(scaling: RopeScaling, turn: Turn): readonly number[] {
  const plain = plainFrequencies(turn);
  switch (scaling.type) {
    case "linear":
      return plain.map((frequency) => frequency / scaling.factor);
    case "dynamic": {
      const { factor, originalLength } = scaling, { theta, dim, length } = turn;
      const growth = factor * Math.max(length, originalLength) / originalLength - (factor - 1);
      return plainFrequencies({ theta: theta * growth ** (dim / (dim - 2)), dim });
    }
    case "llama3":
      return plain.map((frequency) => {
        const { factor, lowFreqFactor, highFreqFactor, originalLength } = scaling;
        const periods = originalLength * frequency / (2 * Math.PI);
        return mix(frequency, {
          factor,
          share: (periods - lowFreqFactor) / (highFreqFactor - lowFreqFactor),
        });
      });
    case "yarn": {
      const [low, high] = yarnRamp(scaling, turn);
      return plain.map((frequency, i) =>
        mix(frequency, { factor: scaling.factor, share: 1 - (i - low) / (high - low) })
      );
    }
    case "longrope": {
      const divisors = turn.length > scaling.originalLength ? scaling.longFactor : scaling.shortFactor;
      return plain.map((frequency, i) => frequency / divisors[i]);
    }
  }
}

/**
 * The geometric series of frequencies.
 *
 * @param turn Base and rotated elements of a head
 * @returns Radians a position, dim / 2 numbers, rounded up
 */
export function plainFrequencies({ theta, dim }: Omit<Turn, "length">): readonly number[] {
  return Array.from({ length: Math.ceil(dim / 2) }, (_, i) => theta ** (-2 * i / dim));
}

/** A share, held between 0 and 1, of a frequency as it is, and the rest of it divided. */
function mix(
  frequency: number,
  { factor, share }: { readonly factor: number; readonly share: number },
): number {
  const kept = Math.min(1, Math.max(0, share));
  return kept * frequency + (1 - kept) * frequency / factor;
}

/** First and last pair of the ramp. */
function yarnRamp(
  { betaFast, betaSlow, truncate, originalLength }: YarnScaling,
  { theta, dim }: Turn,
): readonly [low: number, high: number] {
  const pairOf = (periods: number): number =>
    dim * Math.log(originalLength / (periods * 2 * Math.PI)) / (2 * Math.log(theta));
  const [first, last] = [pairOf(betaFast), pairOf(betaSlow)];
  const low = Math.max(truncate ? Math.floor(first) : first, 0);
  const high = Math.min(truncate ? Math.ceil(last) : last, dim - 1);
  // As in transformers: a ramp of no length is a step.
  return [low, low === high ? high + 0.001 : high];
}
