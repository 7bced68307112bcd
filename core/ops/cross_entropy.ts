/**
 * Cross-entropy of class scores.
 *
 * @module
 */

import {
  crossEntropy as crossEntropyKernel,
  crossEntropyGrad as crossEntropyGradKernel,
} from "../../kernels/cross_entropy.ts";
import { shiftLabels } from "../../kernels/movement.ts";
import { rowThreads } from "../../kernels/rows.ts";
import { ShapeError } from "../errors.ts";
import { fill, tensor } from "../sources.ts";
import { sizeOf, type Spec } from "../spec.ts";
import { apply, checkFloats, checkTensor, type Op, pick, type Tensor } from "../tensor.ts";
import { add, cast, divide, multiply, subtract } from "./arithmetic.ts";
import { broadcast, repeatedScalar, sum } from "./broadcast.ts";
import { equal, maximum, where } from "./comparison.ts";
import { exp, log } from "./functions.ts";
import { f16Bindings } from "./half_precision.ts";
import { checkIds } from "./ids.ts";
import { max } from "./reduce.ts";
import { pad, reshape, slice } from "./movement.ts";

/** The label to ignore, as in PyTorch. */
export const IGNORE: number = -100;

function column(x: Tensor): Tensor {
  return reshape(x, [x.shape[0], 1]);
}

function classIds(classes: number): Tensor {
  return tensor(Float32Array.from({ length: classes }, (_, i) => i), [1, classes]);
}

/** Attributes of {@link crossEntropyOp} and {@link crossEntropyGradOp}. */
export interface CrossEntropyAttrs {
  /** Classes V; scores past them are ignored. */
  readonly classes: number;
}

function checkLabels(op: string, { dtype, shape }: Spec): void {
  if (dtype !== "i32") throw new ShapeError(op, `labels must be i32, not ${dtype}`, [shape]);
}

/** Inputs: logits [N, V or more] and labels [N]. Outputs: the loss and the log-sum-exp of each row, 0 where ignored. */
export const crossEntropyOp: Op<CrossEntropyAttrs> = {
  name: "crossEntropy",
  half: { reads: [0], writes: [] },
  infer([logits, labels]) {
    const shapes = [logits.shape, labels.shape];
    checkFloats("crossEntropy", [logits]);
    if (logits.shape.length !== 2 || labels.shape.length !== 1 || labels.shape[0] !== logits.shape[0]) {
      throw new ShapeError("crossEntropy", "logits must be [N, V] and labels [N]", shapes);
    }
    checkLabels("crossEntropy", labels);
    const rows = { shape: labels.shape, dtype: "f32" as const };
    return [rows, rows];
  },
  pullbacks: [({ inputs: [logits, labels], output, gradient, attrs }) => {
    const scalar = repeatedScalar(gradient);
    const rows = (scale: Tensor): Tensor =>
      apply(crossEntropyGradOp, [logits, labels, pick(output, 1), scale], attrs);
    return scalar !== null ? rows(scalar) : multiply(rows(fill(1, [1])), column(gradient));
  }, null],
  kernel({ inputs: [logits], attrs, target }) {
    const [rows, stride] = logits.shape, f16 = f16Bindings([logits], []);
    const threads = rowThreads(target.software, stride);
    return {
      kernel: crossEntropyKernel({ rows, ...attrs, stride, ignore: IGNORE, threads, f16 }),
      writes: [0, 1],
    };
  },
  definition([padded, labels], { classes }) {
    const logits = slice(padded, { starts: [0, 0], sizes: [padded.shape[0], classes] });
    const top = max(logits, -1);
    const lse = add(top, log(sum(exp(subtract(logits, column(top))), -1)));
    const own = sum(where(equal(column(cast(labels)), classIds(classes)), logits, 0), -1);
    const counts = (x: Tensor): Tensor => where(equal(cast(labels), IGNORE), 0, x);
    return [counts(subtract(lse, own)), counts(lse)];
  },
};

/** Inputs: logits, labels, log-sum-exp and a factor [1]. Output: the gradient by the logits, 0 past the classes. */
export const crossEntropyGradOp: Op<CrossEntropyAttrs> = {
  name: "crossEntropyGrad",
  half: { reads: [0], writes: [0] },
  infer: ([logits]) => [{ shape: logits.shape, dtype: "f32" }],
  kernel({ inputs: [logits], outputs, attrs }) {
    const [rows, stride] = logits.shape;
    const options = { rows, ...attrs, stride, ignore: IGNORE };
    const inPlace = { ...options, inPlace: true, f16: f16Bindings([], outputs) };
    return {
      kernel: crossEntropyGradKernel({ ...options, f16: f16Bindings([logits], outputs) }),
      alias: { input: 0, kernel: () => crossEntropyGradKernel(inPlace) },
    };
  },
  definition([padded, labels, lse, scale], { classes }) {
    const [count, stride] = padded.shape;
    const logits = slice(padded, { starts: [0, 0], sizes: [count, classes] });
    const ids = column(cast(labels));
    const hit = equal(ids, classIds(classes));
    const rows = multiply(subtract(exp(subtract(logits, column(lse))), hit), reshape(scale, [1, 1]));
    const own = where(equal(broadcast(ids, logits.shape), IGNORE), 0, rows);
    return [pad(own, { before: [0, 0], after: [0, stride - classes] })];
  },
};

/**
 * Mean negative log-likelihood of the labels, over the rows whose label is not -100.
 *
 * @param logits f32 [..., V], scores before softmax
 * @param labels i32 [...], class ids; -100 is ignored; an id that is no class is refused in a tensor of values, and gives NaN
 * in all others
 * @returns f32 scalar, nats; 0 when all labels are ignored
 * @throws {ShapeError} When the shapes do not fit or the labels are not i32
 * @throws {InputError} When a tensor of values has a label that is no class
 *
 * @example
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { crossEntropy, openGpu, read, tensor } from "@firn/train";
 *
 * await using gpu = await openGpu();
 * const loss = crossEntropy(tensor([0, 0, 5, 1], [2, 2]), tensor(new Int32Array([1, -100])));
 * assertAlmostEquals((await read(gpu, loss))[0], Math.LN2, 1e-6);
 * ```
 */
export function crossEntropy(logits: Tensor, labels: Tensor): Tensor {
  checkTensor("crossEntropy", logits, "logits");
  checkTensor("crossEntropy", labels, "labels");
  const classes = logits.shape.at(-1) ?? 0, count = sizeOf(labels.shape);
  if (sizeOf(logits.shape) !== count * classes) {
    throw new ShapeError("crossEntropy", "logits must be [..., V] and labels [...]", [
      logits.shape,
      labels.shape,
    ]);
  }
  checkIds("crossEntropy", labels, { classes, ignore: IGNORE });
  const flat = reshape(labels, [count]);
  const rows = apply(crossEntropyOp, [reshape(logits, [flat.shape[0], classes]), flat], { classes });
  return divide(sum(rows), counted(flat));
}

/** Number of labels that are not ignored, at least 1. */
function counted(labels: Tensor): Tensor {
  return maximum(sum(subtract(1, equal(cast(labels), IGNORE))), 1);
}

const nextLabelsOp: Op<null> = {
  name: "nextLabels",
  infer([labels]) {
    checkLabels("nextLabels", labels);
    if (labels.shape.length !== 2) {
      throw new ShapeError("nextLabels", "labels must be [B, T]", [labels.shape]);
    }
    return [{ shape: labels.shape, dtype: "i32" }];
  },
  kernel({ inputs: [labels] }) {
    const [batch, time] = labels.shape;
    return { kernel: shiftLabels({ batch, time, ignore: IGNORE }) };
  },
};

/**
 * Labels for next-token prediction: each position gets the label of the next one, the last position -100.
 *
 * @param labels i32 [B, T]
 * @returns i32 [B, T]
 * @throws {ShapeError} When the labels are not a matrix of i32
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { nextLabels } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const labels = tensor(new Int32Array([5, 6, 7]), [1, 3]);
 * assertEquals([...await read(gpu, nextLabels(labels))], [6, 7, -100]);
 * ```
 */
export function nextLabels(labels: Tensor): Tensor {
  return apply(nextLabelsOp, [labels], null);
}
