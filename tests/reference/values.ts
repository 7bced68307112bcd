/**
 * Arrays in float64 on the host, for the references of tests. Shares no code with the package.
 *
 * @module
 */

/** A row-major array. */
export interface Values {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** Number of elements of a shape. */
export function count(shape: readonly number[]): number {
  return shape.reduce((n, d) => n * d, 1);
}

/** Makes an array from a function of the index along each axis. */
export function build(shape: readonly number[], at: (place: readonly number[]) => number): Values {
  const place = shape.map(() => 0);
  const data = Float64Array.from({ length: count(shape) }, () => {
    const value = at(place);
    for (let d = shape.length - 1; d >= 0 && ++place[d] === shape[d]; d--) place[d] = 0;
    return value;
  });
  return { shape, data };
}

/** Reads an element; axes of size 1 repeat, and leading axes that the array lacks are skipped. */
export function at({ shape, data }: Values, place: readonly number[]): number {
  const skipped = place.length - shape.length;
  return data[shape.reduce((n, d, i) => n * d + (d === 1 ? 0 : place[i + skipped]), 0)];
}

/** Reproducible numbers in [low, high) that f32 holds exactly, by a linear congruential generator. */
export function random(
  shape: readonly number[],
  { seed, low = -1, high = 1 }: { readonly seed: number; readonly low?: number; readonly high?: number },
): Values {
  let state = Math.imul(seed, 2654435761) + 12345 >>> 0;
  return build(shape, () => {
    state = Math.imul(state, 1664525) + 1013904223 >>> 0;
    return Math.fround(low + (high - low) * state / 2 ** 32);
  });
}

/**
 * The gradient of `loss` by one of its inputs, by central differences: exact to about 1e-9 for values near one.
 *
 * @param loss Of the inputs
 * @param options The inputs, which of them, and which of its elements
 * @returns The slope at each of the elements
 */
export function slopes(
  loss: (inputs: readonly Values[]) => number,
  { inputs, index, elements }: {
    readonly inputs: readonly Values[];
    readonly index: number;
    readonly elements: readonly number[];
  },
): number[] {
  const step = 1e-5;
  const moved = Float64Array.from(inputs[index].data);
  const changed = inputs.map((x, i) => i === index ? { ...x, data: moved } : x);
  return elements.map((e) => {
    const middle = moved[e];
    moved[e] = middle + step;
    const above = loss(changed);
    moved[e] = middle - step;
    const below = loss(changed);
    moved[e] = middle;
    return (above - below) / (2 * step);
  });
}

/** Throws unless every element is within `tolerance` times the largest expected magnitude, 0.1 at least. */
export function assertNear(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { tolerance, what }: { readonly tolerance: number; readonly what: string },
): void {
  if (actual.length !== expected.length) {
    throw new Error(`${what} has ${actual.length} elements, not ${expected.length}`);
  }
  const scale = Array.from(expected).reduce((a, x) => Math.max(a, Math.abs(x)), 0.1);
  for (let i = 0; i < actual.length; i++) {
    if (Number.isNaN(expected[i]) && Number.isNaN(actual[i])) continue;
    if (!(Math.abs(actual[i] - expected[i]) <= tolerance * scale)) {
      throw new Error(
        `${what} has ${actual[i]} at ${i}, not ${expected[i]} (scale ${scale}, tolerance ${tolerance})`,
      );
    }
  }
}
