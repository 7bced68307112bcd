/**
 * The test that every operation passes: a row of a table says what to check, {@link checkOps} does it.
 *
 * @module
 */

import { type Gpu, grad, multiply, openGpu, readAll, sum, type Tensor, tensor } from "@firn/train";
import { rebuild, topological } from "../../core/graph.ts";
import { type Op, pickOp } from "../../core/tensor.ts";
import { assertNear, random, slopes, type Values } from "./values.ts";

/** An input: its shape, and the range of its numbers or the integers that it holds. */
export interface Input {
  readonly shape: readonly number[];
  readonly low?: number;
  readonly high?: number;
  readonly integers?: readonly number[];
  /** Whether it is differentiated by; as a rule f32 is. */
  readonly constant?: boolean;
}

/** One operation at one choice of shapes. */
export interface OpCase {
  readonly name: string;
  readonly inputs: readonly Input[];
  readonly op: (...inputs: Tensor[]) => Tensor;
  /** The same in float64. */
  readonly reference: (...inputs: Values[]) => Values;
  /** Of the largest magnitude: 1e-5 when absent, as f32 holds 6e-8 and sums have up to some hundred terms. */
  readonly tolerance?: number;
}

/** Finite differences look at this many elements of an input, evenly spread. */
const MOST_ELEMENTS = 120;

/** Output and gradients of one way to compute a case. */
interface Result {
  readonly output: ArrayLike<number>;
  readonly gradients: readonly ArrayLike<number>[];
}

/** The ways to compute a case, on two kinds of device: kernels for CPUs differ from those for GPUs. */
type Way = "software" | "hardware" | "definition" | "definition of the gradient";

/** One case as nodes and numbers. */
interface Prepared {
  readonly values: readonly Values[];
  readonly wanted: readonly number[];
  /** Factor of each output element in the loss. */
  readonly weights: Values;
  readonly output: Values;
  readonly roots: ReadonlyMap<Way, readonly Tensor[]>;
}

/**
 * Registers the tests of some operations. All graphs of a table run in one plan for each kind of device.
 *
 * For each case: values equal the float64 reference; gradients equal central differences of that reference; and
 * where a fused kernel has a definition, that definition passes both as well.
 *
 * @param cases The table
 */
export function checkOps(cases: readonly OpCase[]): void {
  const prepared = new Map(cases.map((c) => [c, prepare(c)]));
  let running: Promise<ReadonlyMap<readonly Tensor[], readonly ArrayLike<number>[]>> | undefined;

  async function result(c: OpCase, way: Way): Promise<Result> {
    running ??= runAll([...prepared.values()]);
    const [output, ...gradients] = (await running).get(prepared.get(c)!.roots.get(way)!)!;
    return { output, gradients };
  }

  for (const [c, { wanted, output, roots }] of prepared) {
    const { name, tolerance = 1e-5 } = c;
    let differences: readonly Differences[] | undefined;
    for (const way of roots.keys()) {
      Deno.test(`${name} equals its float64 reference: ${way}`, async () => {
        assertNear((await result(c, way)).output, output.data, { tolerance, what: "the output" });
      });
      if (wanted.length === 0) continue;
      Deno.test(`${name} has the gradients of finite differences: ${way}`, async () => {
        const { gradients } = await result(c, way);
        differences ??= differentiate(c, prepared.get(c)!);
        differences.forEach(({ elements, expected }, n) => {
          const what = `the gradient by input ${wanted[n]}`;
          assertNear(elements.map((e) => gradients[n][e]), expected, { tolerance, what });
        });
      });
    }
  }
}

/** Slopes of the reference at some elements of an input. */
interface Differences {
  readonly elements: readonly number[];
  readonly expected: readonly number[];
}

function differentiate({ reference }: OpCase, { values, wanted, weights }: Prepared): Differences[] {
  const loss = (inputs: readonly Values[]): number =>
    reference(...inputs).data.reduce((n, y, i) => n + weights.data[i] * y, 0);
  return wanted.map((index) => {
    const size = values[index].data.length, every = Math.ceil(size / MOST_ELEMENTS);
    const elements = Array.from({ length: Math.ceil(size / every) }, (_, i) => i * every);
    return { elements, expected: slopes(loss, { inputs: values, index, elements }) };
  });
}

function prepare({ inputs, op, reference }: OpCase): Prepared {
  const values = inputs.map(({ shape, integers, low, high }, i): Values =>
    integers === undefined
      ? random(shape, { seed: i + 1, low, high })
      : { shape, data: Float64Array.from(integers) }
  );
  const leaves = inputs.map(({ shape, integers }, i) =>
    tensor(integers === undefined ? Float32Array.from(values[i].data) : Int32Array.from(integers), shape)
  );
  const wanted = inputs.flatMap(({ integers, constant }, i) =>
    integers === undefined && !constant ? [i] : []
  );
  const y = op(...leaves);
  const output = reference(...values);
  if (`${y.shape}` !== `${output.shape}`) throw new Error(`the shape is [${y.shape}], not [${output.shape}]`);
  const weights = random(y.shape, { seed: 99, low: 0.5 });
  const factors = tensor(Float32Array.from(weights.data), y.shape);
  const withGradients = (of: Tensor): Tensor[] => [
    of,
    ...(wanted.length === 0 ? [] : grad(sum(multiply(of, factors)), wanted.map((i) => leaves[i]))),
  ];
  const own = withGradients(y);
  const roots = new Map<Way, readonly Tensor[]>([["software", own], ["hardware", [...own]]]);
  if (topological([y]).some(isFused)) roots.set("definition", withGradients(unfuse([y])[0]));
  if (topological(own).some(isFused)) roots.set("definition of the gradient", unfuse(own));
  return { values, wanted, weights, output, roots };
}

async function runAll(
  prepared: readonly Prepared[],
): Promise<Map<readonly Tensor[], readonly ArrayLike<number>[]>> {
  await using gpu = await openGpu();
  const results = new Map<readonly Tensor[], readonly ArrayLike<number>[]>();
  const run = async (device: Gpu, ways: (way: Way) => boolean): Promise<void> => {
    const all = prepared.flatMap(({ roots }) => [...roots].flatMap(([way, own]) => ways(way) ? [own] : []));
    const data = await readAll(device, all.flat());
    let from = 0;
    for (const own of all) results.set(own, data.slice(from, from += own.length));
  };
  await run({ ...gpu, target: { ...gpu.target, software: true } }, (way) => way !== "hardware");
  await run({ ...gpu, target: { ...gpu.target, software: false } }, (way) => way === "hardware");
  return results;
}

function isFused({ op }: { readonly op: Op }): boolean {
  return op.kernel !== undefined && op.definition !== undefined;
}

/** Replaces fused ops by their definitions, and those in them by theirs. */
export function unfuse(roots: readonly Tensor[]): Tensor[] {
  const outputs = new Map<Tensor, readonly Tensor[]>();
  return rebuild(roots, (node) => {
    if (node.op === pickOp && outputs.has(node.inputs[0])) {
      return outputs.get(node.inputs[0])![(node.attrs as { index: number }).index];
    }
    if (!isFused(node)) return node;
    const parts = unfuse(node.op.definition!(node.inputs, node.attrs));
    outputs.set(parts[0], parts);
    return parts[0];
  });
}
