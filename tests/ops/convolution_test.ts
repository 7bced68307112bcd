import { assertEquals, assertThrows } from "@std/assert";
import { fill, grad, InputError, openGpu, readAll, sum, tensor } from "@firn/train";
import { avgPool1d, avgPool2d, conv1d, conv2d, maxPool1d, maxPool2d } from "@firn/train/ops";
import { checkOps, type OpCase } from "../reference/check_ops.ts";
import { at, build, type Values } from "../reference/values.ts";

interface Windows {
  readonly stride?: readonly number[];
  readonly padding?: readonly number[];
  readonly dilation?: readonly number[];
  readonly groups?: number;
}

/** Numbers of windows along height and width. */
function counts(
  size: readonly number[],
  kernel: readonly number[],
  { stride, padding, dilation }: Windows,
): number[] {
  return [0, 1].map((d) =>
    Math.floor((size[d] + 2 * padding![d] - dilation![d] * (kernel[d] - 1) - 1) / stride![d]) + 1
  );
}

const DEFAULTS = { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 };

/** An element of an image, or a value outside of it. */
function pixel(x: Values, [b, c, y, z]: readonly number[], outside: number): number {
  return y >= 0 && y < x.shape[2] && z >= 0 && z < x.shape[3] ? at(x, [b, c, y, z]) : outside;
}

function convolve(x: Values, w: Values, options: Windows, bias?: Values): Values {
  const { stride, padding, dilation, groups } = { ...DEFAULTS, ...options };
  const [outputs, own, kh, kw] = w.shape;
  const sizes = counts(x.shape.slice(2), [kh, kw], { stride, padding, dilation });
  return build([x.shape[0], outputs, ...sizes], ([b, o, i, j]) => {
    let total = bias?.data[o] ?? 0;
    const first = Math.floor(o / (outputs / groups)) * own;
    for (let c = 0; c < own; c++) {
      for (let m = 0; m < kh; m++) {
        for (let n = 0; n < kw; n++) {
          const y = i * stride[0] + m * dilation[0] - padding[0],
            z = j * stride[1] + n * dilation[1] - padding[1];
          total += at(w, [o, c, m, n]) * pixel(x, [b, first + c, y, z], 0);
        }
      }
    }
    return total;
  });
}

function pool(
  x: Values,
  [kh, kw]: readonly number[],
  options: Windows,
  join: (all: readonly number[]) => number,
): Values {
  const { stride, padding, dilation } = { ...DEFAULTS, stride: [kh, kw], ...options };
  const sizes = counts(x.shape.slice(2), [kh, kw], { stride, padding, dilation });
  return build(
    [...x.shape.slice(0, 2), ...sizes],
    ([b, c, i, j]) =>
      join(Array.from({ length: kh * kw }, (_, k) => {
        const y = i * stride[0] + Math.floor(k / kw) - padding[0], z = j * stride[1] + k % kw - padding[1];
        return pixel(x, [b, c, y, z], NaN);
      })),
  );
}

const largest = (all: readonly number[]): number => Math.max(...all.filter((v) => !Number.isNaN(v)));
const meanInside = (all: readonly number[]): number => {
  const inside = all.filter((v) => !Number.isNaN(v));
  return inside.reduce((a, b) => a + b, 0) / inside.length;
};
const meanOfAll = (all: readonly number[]): number =>
  all.reduce((a, b) => a + (Number.isNaN(b) ? 0 : b), 0) / all.length;

/** Images of height 1 for signals. */
const tall = ({ shape, data }: Values): Values => ({ shape: shape.toSpliced(2, 0, 1), data });
const flat = ({ shape, data }: Values): Values => ({ shape: shape.toSpliced(2, 1), data });

const CASES: readonly (readonly [image: number[], weight: number[], options: Windows])[] = [
  [[2, 3, 5, 7], [4, 3, 3, 2], {}],
  [[1, 2, 6, 5], [3, 2, 3, 3], { stride: [2, 1], padding: [1, 2] }],
  [[2, 4, 7, 6], [6, 2, 3, 2], { groups: 2, dilation: [2, 3], padding: [2, 1], stride: [3, 2] }],
  [[2, 3, 5, 5], [3, 1, 3, 3], { groups: 3, padding: [1, 1] }],
  [[1, 3, 8, 8], [5, 3, 4, 4], { stride: [4, 4] }],
];

checkOps([
  ...CASES.map(([image, weight, options]): OpCase => ({
    name: `conv2d [${image}] by [${weight}] ${JSON.stringify(options)}`,
    inputs: [{ shape: image }, { shape: weight }, { shape: [weight[0]] }],
    op: (x, w, bias) => conv2d(x, w, { ...options, bias }),
    reference: (x, w, bias) => convolve(x, w, options, bias),
  })),
  {
    name: "conv1d with all options",
    inputs: [{ shape: [2, 4, 9] }, { shape: [6, 2, 3] }],
    op: (x, w) => conv1d(x, w, { stride: 2, padding: 2, dilation: 2, groups: 2 }),
    reference: (x, w) =>
      flat(convolve(tall(x), tall(w), { stride: [1, 2], padding: [0, 2], dilation: [1, 2], groups: 2 })),
  },
  {
    name: "maxPool2d of windows that overlap",
    inputs: [{ shape: [2, 3, 5, 7] }],
    op: (x) => maxPool2d(x, { size: [3, 2], stride: [2, 1], padding: [1, 0] }),
    reference: (x) => pool(x, [3, 2], { stride: [2, 1], padding: [1, 0] }, largest),
  },
  {
    name: "maxPool1d",
    inputs: [{ shape: [2, 3, 7], low: -3, high: -1 }],
    op: (x) => maxPool1d(x, { size: 3, padding: 1 }),
    reference: (x) => flat(pool(tall(x), [1, 3], { padding: [0, 1] }, largest)),
  },
  {
    name: "avgPool2d without what is outside",
    inputs: [{ shape: [2, 3, 5, 7] }],
    op: (x) => avgPool2d(x, { size: [3, 2], stride: 2, padding: 1, countIncludePad: false }),
    reference: (x) => pool(x, [3, 2], { stride: [2, 2], padding: [1, 1] }, meanInside),
  },
  {
    name: "avgPool1d with what is outside",
    inputs: [{ shape: [2, 3, 7] }],
    op: (x) => avgPool1d(x, { size: 3, stride: 2, padding: 1 }),
    reference: (x) => flat(pool(tall(x), [1, 3], { stride: [1, 2], padding: [0, 1] }, meanOfAll)),
  },
]);

Deno.test("maxPool2d gives the gradient to the first of equal elements", async () => {
  await using gpu = await openGpu();
  const x = tensor([0, 0, 0, 0, 5, 5, 0, 5], [1, 1, 2, 4]);
  const [seen, slope] = await readAll(gpu, [
    maxPool2d(x, { size: 2 }),
    ...grad(sum(maxPool2d(x, { size: 2 })), [x]),
  ]);
  assertEquals([[...seen], [...slope]], [[5, 5], [0, 0, 0, 0, 1, 0, 0, 1]]);
});

Deno.test("convolution and pooling refuse what does not fit, by name", () => {
  const image = fill(1, [1, 4, 3, 3]);
  assertThrows(
    () => conv2d(image, fill(1, [2, 3, 1, 1])),
    InputError,
    "channels must be those of the weight",
  );
  assertThrows(() => conv2d(image, fill(1, [2, 4, 4, 1])), InputError, "a window of 4 x 1 must fit");
  assertThrows(() => conv2d(image, fill(1, [2, 4, 1, 1]), { stride: 0 }), InputError, '"stride" must be');
  assertThrows(() => maxPool2d(image, { size: 2, padding: 2 }), InputError, "at most half a window");
  assertThrows(() => conv1d(image, fill(1, [2, 4, 1])), InputError, "x must be [B, C, T]");
});
