/** Decays of Adam's moments. */
export interface AdamDecays {
  /** Decay of the first moment; 0.9 when absent. */
  readonly beta1?: number;
  /** Decay of the second moment; 0.999 when absent. */
  readonly beta2?: number;
}

/** Sums over the elements of a component since its moments began. */
export type Moments = {
  /** Updates so far. */
  readonly steps: number;
  /** `sum v` after the last one. */
  readonly second: number;
  /** `sum q`, where q is an average of `g^2` that decays as the square of the first moment does. */
  readonly square: number;
};

/** The value of `sum m^2 / sum q` for pure noise. */
export function noiseShare(beta1: number): number {
  return (1 - beta1) / (1 + beta1);
}

/**
 * Updates `sum q` by a step; `sum g^2` of the step is the difference of two sums of v.
 *
 * @param before `second` and `square` of the step before
 * @param now `second` of this step, and the decays
 * @returns `sum q`
 */
export function nextSquare(
  before: Pick<Moments, "second" | "square">,
  { second, beta1, beta2 }: Required<AdamDecays> & { readonly second: number },
): number {
  const keep = beta1 ** 2, squares = Math.max(0, second - beta2 * before.second) / (1 - beta2);
  return keep * before.square + (1 - keep) * squares;
}

/**
 * First-order decrease of the loss by a step of Adam, divided by the learning rate, counting only what is not noise in
 * a component's gradient.
 *
 * For an element with mean gradient s and variance o^2, both constant so far, `m^2` is on average `(1-b1^t)^2 s^2 + r0
 * (1-b1^2t) o^2`, and q is `(1-b1^2t) (s^2 + o^2)`, where r0 is {@link noiseShare}. So `sum m^2 - r0 sum q` is `sum
 * s^2` times a known factor of the step. A step moves an element by `m / sqrt(v)` and gains `s^2 / sqrt(v)`. v is
 * assumed equal for all elements.
 *
 * @param moments After the step
 * @param now `sum m^2` of the step, elements, and the decays
 * @returns The gain, about 0 of either sign for pure noise; NaN while the moments are too young, and when the gradient is so
 * far below v that float32 cannot resolve it
 */
export function expectedGain(
  { steps, second, square }: Moments,
  { first, size, beta1, beta2 }: Required<AdamDecays> & { readonly first: number; readonly size: number },
): number {
  if (steps <= 1 / (1 - beta1) || square < second / 100 * (1 - beta2 ** steps)) return NaN;
  const r0 = noiseShare(beta1);
  const signal = (first - r0 * square) / ((1 - beta1 ** steps) ** 2 - r0 * (1 - beta1 ** (2 * steps)));
  return signal / Math.sqrt(second / (1 - beta2 ** steps) / size);
}
