/**
 * Einstein summation.
 *
 * @module
 */

import { counted } from "../counted.ts";
import { refuse } from "../arguments.ts";
import { ShapeError } from "../errors.ts";
import { sizeOf } from "../spec.ts";
import { checkFloats, checkTensor, type Tensor } from "../tensor.ts";
import { arange } from "./arange.ts";
import { multiply } from "./arithmetic.ts";
import { sum } from "./broadcast.ts";
import { matmul } from "./matmul.ts";
import { permute, reshape } from "./movement.ts";
import { oneHot } from "./one_hot.ts";

/** Axes that {@link permute} moves. */
const MOST_AXES = 6;

/** A tensor whose axes have names. */
interface Named {
  readonly x: Tensor;
  readonly labels: readonly string[];
}

/**
 * Multiplies tensors and sums over the axes that the result does not name, as `jnp.einsum` does: two at a time from the left, by
 * matrix products where an axis is summed.
 *
 * @param equation A letter for each axis: `"bij,bjk->bik"`. Without an arrow the result has the letters that stand once, in
 * alphabetic order. A letter that one tensor has twice is its diagonal
 * @param tensors f32, up to six axes each
 * @returns f32, with the axes behind the arrow
 * @throws {InputError} When the equation is malformed, or `...` is in it
 * @throws {ShapeError} When a tensor has other axes, or a letter stands for different sizes
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read, tensor } from "@firn/train";
 * import { einsum } from "@firn/train/ops";
 *
 * await using gpu = await openGpu();
 * const a = tensor([1, 2, 3, 4], [2, 2]), b = tensor([1, 0, 0, 2], [2, 2]);
 * assertEquals([...await read(gpu, einsum("ij,jk->ki", [a, b]))], [1, 3, 4, 8]);
 * ```
 */
export function einsum(equation: string, tensors: readonly Tensor[]): Tensor {
  if (!Array.isArray(tensors) || tensors.length === 0) {
    refuse("einsum", "it takes a list of at least one tensor", tensors);
  }
  tensors.forEach((x, i) => checkTensor("einsum", x, `tensors[${i}]`));
  checkFloats("einsum", tensors);
  const { terms, result } = parse(equation, tensors.length);
  checkSizes(terms, tensors);
  const named = terms.map((labels, i) => diagonal({ x: tensors[i], labels }));
  let [whole, ...rest] = named;
  for (; rest.length > 0; rest = rest.slice(1)) {
    const needed = new Set([...result, ...rest.slice(1).flatMap(({ labels }) => labels)]);
    whole = contract(whole, rest[0], needed);
  }
  return ordered(reduced(whole, new Set(result)), result).x;
}

function parse(equation: string, count: number): {
  readonly terms: readonly (readonly string[])[];
  readonly result: readonly string[];
} {
  const wrong = (rule: string): never => refuse("einsum", rule, equation);
  if (typeof equation !== "string") wrong("its equation must be a text");
  if (equation.includes("...")) wrong("every axis needs a letter of its own: ... is not read");
  const text = equation.replaceAll(" ", "");
  if (!/^[A-Za-z]*(,[A-Za-z]*)*(->[A-Za-z]*)?$/.test(text)) {
    wrong('its equation must be letters, commas and one arrow, such as "ij,jk->ik"');
  }
  const [left, right] = text.split("->"), terms = left.split(",").map((term) => [...term]);
  if (terms.length !== count) wrong(`it must name the axes of ${counted(count, "tensor")}`);
  const all = terms.flat(), once = (label: string): boolean => all.indexOf(label) === all.lastIndexOf(label);
  const result = right === undefined ? all.filter(once).sort() : [...right];
  if (new Set(result).size !== result.length) wrong("a letter must stand once behind the arrow");
  const unknown = result.find((label) => !all.includes(label));
  if (unknown !== undefined) wrong(`"${unknown}" behind the arrow must be an axis of a tensor`);
  return { terms, result };
}

function checkSizes(terms: readonly (readonly string[])[], tensors: readonly Tensor[]): void {
  const shapes = tensors.map(({ shape }) => shape), sizes = new Map<string, number>();
  terms.forEach((labels, i) => {
    if (labels.length !== shapes[i].length || labels.length > MOST_AXES) {
      throw new ShapeError(
        "einsum",
        `"${labels.join("")}" must name the axes of a tensor, up to ${MOST_AXES}`,
        [
          shapes[i],
        ],
      );
    }
    labels.forEach((label, d) => {
      const size = sizes.get(label) ?? shapes[i][d];
      if (size !== shapes[i][d]) {
        throw new ShapeError(
          "einsum",
          `"${label}" must stand for one size, not ${size} and ${shapes[i][d]}`,
          shapes,
        );
      }
      sizes.set(label, size);
    });
  });
}

/** A tensor of which no two axes have one name: only elements at equal places along those remain. */
function diagonal({ x, labels }: Named): Named {
  const first = labels.findIndex((label, d) => labels.lastIndexOf(label) !== d);
  if (first < 0) return { x, labels };
  const second = labels.indexOf(labels[first], first + 1), size = x.shape[first];
  const same = reshape(
    oneHot(arange(size), size),
    x.shape.map((_, d) => d === first || d === second ? size : 1),
  );
  return diagonal({ x: sum(multiply(x, same), second), labels: labels.toSpliced(second, 1) });
}

/** Sums over axes that nobody needs. */
function reduced({ x, labels }: Named, needed: ReadonlySet<string>): Named {
  const gone = labels.flatMap((label, d) => needed.has(label) ? [] : [d]);
  return gone.length === 0
    ? { x, labels }
    : { x: sum(x, gone), labels: labels.filter((label) => needed.has(label)) };
}

/** A tensor with its axes in an order. */
function ordered({ x, labels }: Named, order: readonly string[]): Named {
  const axes = order.map((label) => labels.indexOf(label));
  return axes.every((axis, d) => axis === d) ? { x, labels } : { x: permute(x, axes), labels: order };
}

/** The product of two tensors, summed over the axes that only they have and nobody needs. */
function contract(left: Named, right: Named, needed: ReadonlySet<string>): Named {
  const a = reduced(left, new Set([...needed, ...right.labels]));
  const b = reduced(right, new Set([...needed, ...left.labels]));
  const shared = a.labels.filter((label) => b.labels.includes(label));
  const summed = shared.filter((label) => !needed.has(label)),
    kept = shared.filter((label) => needed.has(label));
  const freeA = a.labels.filter((label) => !shared.includes(label));
  const freeB = b.labels.filter((label) => !shared.includes(label));
  const labels = [...kept, ...freeA, ...freeB];
  const sizesOf = ({ x, labels: own }: Named, some: readonly string[]): number[] =>
    some.map((label) => x.shape[own.indexOf(label)]);
  const shape = [...sizesOf(a, kept), ...sizesOf(a, freeA), ...sizesOf(b, freeB)];
  if (summed.length === 0) {
    const spread = (own: Named, free: readonly string[], sizes: readonly number[]): Tensor =>
      reshape(ordered(own, [...kept, ...free]).x, sizes);
    const ones = (some: readonly string[]): number[] => some.map(() => 1);
    return {
      x: multiply(
        spread(a, freeA, [...sizesOf(a, [...kept, ...freeA]), ...ones(freeB)]),
        spread(b, freeB, [...sizesOf(b, kept), ...ones(freeA), ...sizesOf(b, freeB)]),
      ),
      labels,
    };
  }
  const first = stacked(a, { kept, rows: freeA, columns: summed });
  const second = stacked(b, { kept, rows: summed, columns: freeB });
  const layout = { transposeA: first.transposed, transposeB: second.transposed };
  return { x: reshape(matmul(first.x, second.x, layout), shape), labels };
}

/** A stack of matrices, transposed where that saves moving memory. */
function stacked(
  own: Named,
  { kept, rows, columns }: Readonly<Record<"kept" | "rows" | "columns", readonly string[]>>,
): { readonly x: Tensor; readonly transposed: boolean } {
  const sizes = (some: readonly string[]): number =>
    sizeOf(some.map((label) => own.x.shape[own.labels.indexOf(label)]));
  const turned = [...kept, ...columns, ...rows],
    transposed = turned.every((label, d) => label === own.labels[d]);
  const { x } = ordered(own, transposed ? turned : [...kept, ...rows, ...columns]);
  const matrix = transposed ? [sizes(columns), sizes(rows)] : [sizes(rows), sizes(columns)];
  return { x: reshape(x, kept.length === 0 ? matrix : [sizes(kept), ...matrix]), transposed };
}
