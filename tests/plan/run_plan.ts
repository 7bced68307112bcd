/**
 * Runs a plan on the host, in float64: launches in their order, on the memory that the plan gives them.
 *
 * A launch is computed from what its kernel was asked for, not from its WGSL. So this checks all that the planner decides
 * (groups, order, bindings, shared memory); that the WGSL does what was asked for is checked on a device.
 *
 * @module
 */

import * as ops from "@firn/train/ops";
import { type Tensor, tensor } from "@firn/train";
import { type Elementwise, elementwise } from "../../kernels/elementwise.ts";
import type { Expression } from "../../kernels/expression.ts";
import { matmul, reduceSplits } from "../../kernels/matmul/matmul.ts";
import { type Matmul, partialSize, splitOf } from "../../kernels/matmul/types.ts";
import { columnPieces, reduce, type Reduction } from "../../kernels/reduce.ts";
import { textCache } from "../../core/plan/lower/kernel_cache.ts";
import type { BoundText, Plan, TextCache } from "../../core/plan/types.ts";
import type { KernelText } from "../../core/kernel_call.ts";
import { ELEMENT } from "../reference/evaluate.ts";
import * as reference from "../reference/ops.ts";
import type { Values } from "../reference/values.ts";

/** What a kernel was asked for, and by which generator. */
interface Asked {
  // deno-lint-ignore ban-types
  readonly make: Function;
  readonly request: unknown;
}

/** A cache of kernels that knows what each was asked for. */
export interface KnownTexts extends TextCache {
  readonly asked: ReadonlyMap<KernelText, Asked>;
}

/** Makes a {@link KnownTexts} for `plan`. */
export function knownTexts(): KnownTexts {
  const cache = textCache(), asked = new Map<KernelText, Asked>();
  return {
    keyOf: cache.keyOf,
    asked,
    remembered<A, R>(make: (request: A) => R): (request: A) => R {
      const inner = cache.remembered(make);
      return (request) => {
        const result = inner(request);
        asked.set((result as { kernel?: KernelText }).kernel ?? result as KernelText, { make, request });
        return result;
      };
    },
  };
}

/** The function that a step of an expression stands for, by the WGSL generator of its op. */
const FUNCTIONS: ReadonlyMap<unknown, (...args: number[]) => number> = new Map(
  sampleNodes().map(({ op }) => [op.element!.text, op.name === "broadcast" ? (a) => a : ELEMENT[op.name]]),
);

function sampleNodes(): Tensor[] {
  const x = tensor([1, 2]);
  return [
    ...[ops.add, ops.subtract, ops.multiply, ops.divide, ops.maximum, ops.minimum, ops.less, ops.equal]
      .map((op) => op(x, x)),
    ...[ops.negate, ops.exp, ops.sqrt, ops.rsqrt, ops.abs, ops.sign, ops.tanh, ops.sigmoid].map((op) =>
      op(x)
    ),
    ops.where(x, x, x),
    ops.broadcast(x, [2, 2]),
  ];
}

/** One array for each place in memory. */
type Memory = (buffer: number) => Float64Array;

/**
 * Runs a plan at step 1.
 *
 * @param plan The plan
 * @param options `asked` of the cache that it was made with; values of the leaves by path, which it overwrites
 * @returns The values of the roots, as many as their buffers hold
 */
export function runPlan(
  plan: Plan,
  { asked, leaves }: { readonly asked: KnownTexts["asked"]; readonly leaves: ReadonlyMap<string, Values> },
): Float64Array[] {
  // What nobody wrote is no number.
  const slots = plan.slots.map((bytes) => new Float64Array(bytes / 4).fill(NaN));
  const arrays = plan.buffers.map(({ source }) => {
    switch (source.kind) {
      case "slot":
        return slots[source.slot];
      case "leaf":
        return leaves.get((source.node.attrs as { path: string }).path)!.data;
      case "host":
        return Float64Array.from(source.data);
      case "scalars":
        return Float64Array.from(plan.scalars, ({ value }) => value(1, 1));
      default:
        throw new TypeError(`Cannot run a plan with a buffer that is "${source.kind}"`);
    }
  });
  for (const launch of plan.launches) {
    for (const part of launch.parts ?? [launch]) runLaunch(part, { asked: asked.get(part.kernel), arrays });
  }
  return plan.roots.map((b) => arrays[b]);
}

function runLaunch(
  { kernel, bindings }: BoundText,
  { asked, arrays }: { readonly asked: Asked | undefined; readonly arrays: readonly Float64Array[] },
): void {
  const bound = bindings.map((b) => arrays[b]);
  const at: Memory = (binding) => bound[binding];
  if (asked === undefined) runCollect(bound, kernel);
  else if (asked.make === elementwise) runElementwise(asked.request as Elementwise, at);
  else if (asked.make === matmul) runMatmul(asked.request as Matmul, at);
  else if (asked.make === reduceSplits) runReduceSplits(asked.request as Matmul, at);
  else if (asked.make === reduce) runReduce(asked.request as Reduction, at);
  else runMovement(kernel, { request: asked.request as MovementRequest, bound });
}

/** Values of all steps of an expression at one element. */
function stepsAt(
  { shape, inputs, steps }: Expression,
  element: number,
  { input, given = NaN }: { readonly input: Memory; readonly given?: number },
): number[] {
  const values: number[] = [];
  for (const step of steps) {
    switch (step.kind) {
      case "constant":
        values.push(step.value);
        break;
      case "given":
        values.push(given);
        break;
      case "scalar":
        values.push(input(step.input)[step.index]);
        break;
      case "compute":
        values.push(FUNCTIONS.get(step.text)!(...step.args.map((a) => values[a])));
        break;
      case "load": {
        const { strides } = inputs[step.input];
        let rest = element, index = 0;
        for (let d = shape.length - 1; d >= 0; d--) {
          index += rest % shape[d] * strides[d];
          rest = Math.floor(rest / shape[d]);
        }
        values.push(input(step.input)[index]);
        break;
      }
      default:
        throw new TypeError(`Cannot run a step of kind "${step.kind}"`);
    }
  }
  return values;
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1);

function runElementwise(group: Elementwise, at: Memory): void {
  const { expression, outputs, overwrites = outputs.map(() => null), sums = [], parts = 1, shared = [] } =
    group;
  const size = sizeOf(expression.shape), own = expression.inputs.length - shared.length;
  const fresh = overwrites.filter((k) => k === null).length, partials = group.partials ?? 1;
  for (let part = 0; part < parts; part++) {
    const start = shared.length + part * (own + fresh);
    const input: Memory = (k) =>
      shared.includes(k) ? at(shared.indexOf(k)) : at(start + k - shared.filter((other) => other < k).length);
    let made = 0;
    const targets = overwrites.map((k) => k === null ? at(start + own + made++) : input(k));
    const totals = sums.map(() => 0);
    for (let i = 0; i < size; i++) {
      const values = stepsAt(expression, i, { input });
      outputs.forEach((step, k) => targets[k][i] = values[step]);
      sums.forEach((step, k) => totals[k] += values[step]);
    }
    totals.forEach((sum, k) => {
      for (let g = 0; g < partials; g++) {
        at(shared.length + parts * (own + fresh))[(part * sums.length + k) * partials + g] = g === 0
          ? sum
          : 0;
      }
    });
  }
}

function runMatmul(product: Matmul, at: Memory): void {
  const { batch, m, n, k, transposeA, transposeB, group, variant, epilogue } = product;
  if (product.limit !== undefined || product.strideA !== undefined || product.columnsB !== undefined) {
    throw new TypeError("Cannot run a product with pads or a limit");
  }
  const count = group?.count ?? 1, results = group?.as === "separate" ? count : 1;
  const first = group?.shared === "a" ? 1 : count, second = group?.shared === "b" ? 1 : count;
  const products = Array.from({ length: count }, (_, i) =>
    reference.matmul(
      { shape: [batch, ...(transposeA ? [k, m] : [m, k])], data: at(first === 1 ? 0 : i) },
      { shape: [batch, ...(transposeB ? [n, k] : [k, n])], data: at(first + (second === 1 ? 0 : i)) },
      { transposeA, transposeB },
    ).data);
  const start = first + second;
  const sum = (i: number): number => products.reduce((total, { [i]: x }) => total + x, 0);
  const split = splitOf(variant), partial = split > 1;
  for (let i = 0; i < batch * m * n; i++) {
    if (partial) {
      // All of it in the first part.
      for (let r = 0; r < results; r++) {
        for (let part = 0; part < split; part++) {
          const value = results > 1 ? products[r][i] : sum(i);
          at(start + r)[part * partialSize(product) + i] = part === 0 ? value : 0;
        }
      }
    } else if (results > 1) products.forEach(({ [i]: x }, r) => at(start + r)[i] = x);
    else if (epilogue === undefined) at(start)[i] = sum(i);
    else store(epilogue, { i, given: sum(i), input: (k) => at(start + k), from: start, at });
  }
}

function store(
  { expression, outputs }: NonNullable<Matmul["epilogue"]>,
  { i, given, input, from, at }: {
    readonly i: number;
    readonly given: number;
    readonly input: Memory;
    readonly from: number;
    readonly at: Memory;
  },
): void {
  const values = stepsAt(expression, i, { input, given });
  outputs.forEach((step, k) => at(from + expression.inputs.length + k)[i] = values[step]);
}

function runReduceSplits(product: Matmul, at: Memory): void {
  const { batch, m, n, group, variant, epilogue } = product;
  const split = splitOf(variant), size = partialSize(product);
  const parts = group?.as === "separate" ? group.count : 1, inputs = epilogue?.expression.inputs.length ?? 0;
  for (let part = 0; part < parts; part++) {
    for (let i = 0; i < batch * m * n; i++) {
      let given = 0;
      for (let s = 0; s < split; s++) given += at(parts > 1 ? 2 * part : inputs)[s * size + i];
      if (parts > 1 || epilogue === undefined) at(parts > 1 ? 2 * part + 1 : 1)[i] = given;
      else store(epilogue, { i, given, input: at, from: 1, at });
    }
  }
}

function runReduce({ expression, outer, length, inner, kind, threads }: Reduction, at: Memory): void {
  const pieces = columnPieces({ outer, length, inner, threads }), result = at(expression.inputs.length);
  const start = kind === "sum" ? 0 : -Infinity;
  for (let row = 0; row < outer; row++) {
    for (let c = 0; c < inner; c++) {
      let total = start;
      for (let k = 0; k < length; k++) {
        const value = stepsAt(expression, (row * length + k) * inner + c, { input: at }).at(-1)!;
        total = kind === "sum" ? total + value : Math.max(total, value);
      }
      // All of it in the first piece.
      for (let piece = 0; piece < pieces; piece++) {
        result[(row * pieces + piece) * inner + c] = piece === 0 ? total : start;
      }
    }
  }
}

/** Adds runs of partial sums, as a table tells. */
function runCollect([table, ...bound]: readonly Float64Array[], { name }: KernelText): void {
  if (!name.startsWith("collect")) throw new TypeError(`Cannot run "${name}" as nobody asked for it`);
  for (let at = 0; at < table.length; at += 4) {
    const [input, start, count, place] = table.subarray(at, at + 4);
    let total = 0;
    for (let k = 0; k < count; k++) total += bound[input][start + k];
    bound.at(-1)![place] = total;
  }
}

/** What the kernel of an op that moves elements is asked for. */
interface MovementRequest {
  readonly inputs: readonly { readonly shape: readonly number[] }[];
  // deno-lint-ignore no-explicit-any
  readonly attrs: any;
}

function runMovement(
  { name }: KernelText,
  { request, bound }: { readonly request: MovementRequest; readonly bound: readonly Float64Array[] },
): void {
  const inputs = request.inputs.map(({ shape }, i): Values => ({
    shape,
    data: bound[i].slice(0, sizeOf(shape)),
  }));
  const moved = (): Values => {
    switch (name.split(" ")[0]) {
      case "permute":
        return reference.permute(inputs[0], request.attrs.axes);
      case "slice":
        return reference.slice(inputs[0], request.attrs);
      case "pad":
        return reference.pad(inputs[0], request.attrs);
      case "concat":
        return reference.concat(inputs, request.attrs.axis);
      default:
        throw new TypeError(`Cannot run "${name}": not known`);
    }
  };
  bound.at(-1)!.set(moved().data);
}
