/** Some steps of an optimizer on the device, with drawn gradients. */

import {
  type Gpu,
  type HostData,
  type Leaves,
  type Optimizer,
  readAll,
  type Tensor,
  tensor,
} from "@firn/train";
import { readStep } from "../reference/read_step.ts";
import { assertNear, random } from "../reference/values.ts";

/** Shapes of the parameters: a wide and a tall matrix and a vector, none of a multiple of four elements a row. */
export const SHAPES: Readonly<Record<string, readonly number[]>> = {
  "layer.weight": [5, 7],
  "tall.weight": [9, 4],
  "layer.bias": [3],
};

/** How many steps are taken. */
export const STEPS = 20;

/** Values by path. */
export type Numbers = Map<string, Float64Array>;

/** Reproducible values of all parameters. */
export function numbers(seed: number, scale = 1): Numbers {
  return new Map(
    Object.entries(SHAPES).map(([path, shape], i) => [
      path,
      random(shape, { seed: seed + 50 * i, low: -scale, high: scale }).data,
    ]),
  );
}

/** Gradients of a step. */
export function gradients(step: number): Numbers {
  return numbers(10 + step);
}

/** Values as tensors, in the shape of the parameter that a path ends with. */
export function tensors(values: ReadonlyMap<string, Float64Array | Float32Array>): Leaves {
  return new Map(
    [...values].map(([path, data]) => [
      path,
      tensor(Float32Array.from(data), Object.entries(SHAPES).find(([name]) => path.endsWith(name))![1]),
    ]),
  );
}

/** Parameters after the steps; or the weights that the optimizer evaluates. */
export async function train(
  gpu: Gpu,
  optimizer: Optimizer,
  { evaluated = false }: { readonly evaluated?: boolean } = {},
): Promise<Map<string, HostData>> {
  let params = tensors(numbers(1)), state: Leaves = new Map(optimizer.init(params));
  for (let step = 1; step <= STEPS; step++) {
    const next = optimizer.next(state, tensors(gradients(step)), params);
    const roots = [...next.updates, ...next.state];
    const values = await readStep(gpu, roots.map(([, t]) => t), step);
    const read = new Map(roots.map(([path, { shape }], i) => [path, tensor(values[i], shape)]));
    params = new Map([...params].map(([path, p]) => {
      const old = valuesIn(p), update = valuesIn(read.get(path)!);
      return [path, tensor(Float32Array.from(old, (x, i) => x + update[i]), p.shape)];
    }));
    state = new Map([...next.state.keys()].map((path) => [path, read.get(path)!]));
  }
  if (!evaluated) return new Map([...params].map(([path, p]) => [path, valuesIn(p)]));
  const weights = [...optimizer.evaluated!(state, params)];
  const values = await readAll(gpu, weights.map(([, t]) => t));
  return new Map(weights.map(([path], i) => [path, values[i]]));
}

function valuesIn(t: Tensor): HostData {
  return (t.attrs as { readonly data: HostData }).data;
}

/** Asserts that parameters are those of a reference. */
export function assertParams(
  actual: ReadonlyMap<string, HostData>,
  expected: ReadonlyMap<string, ArrayLike<number>>,
  tolerance = 1e-6,
): void {
  for (const [path, data] of expected) {
    // Twenty updates near one in f32, which holds 6e-8.
    assertNear(actual.get(path)!, Float64Array.from(data), { tolerance, what: path });
  }
}
