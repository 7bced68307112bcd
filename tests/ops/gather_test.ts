import { assertEquals, assertThrows } from "@std/assert";
import { fill, InputError, openGpu, read, readAll, tensor } from "@firn/train";
import { gather, integers, scatterAdd } from "@firn/train/ops";
import { checkOps, type Input, type OpCase } from "../reference/check_ops.ts";
import { at, build, type Values } from "../reference/values.ts";

/** Indices of a shape, all below a number, some of them equal. */
function indices(shape: readonly number[], below: number): Input {
  const size = shape.reduce((n, d) => n * d, 1);
  return { shape, integers: Array.from({ length: size }, (_, i) => (i * i + 3 * i) % 7 % below) };
}

function gatherReference(axis: number): OpCase["reference"] {
  return (x, ids) => build(ids.shape, (place) => at(x, place.with(axis, at(ids, place))));
}

function scatterReference(axis: number): OpCase["reference"] {
  return (x, updates, ids) => {
    const out: Values = { shape: x.shape, data: Float64Array.from(x.data) };
    build(ids.shape, (place) => {
      const to = place.with(axis, at(ids, place));
      return out.data[to.reduce((n, p, d) => n * x.shape[d] + p, 0)] += at(updates, place);
    });
    return out;
  };
}

const SHAPES: readonly (readonly [shape: number[], axis: number, count: number])[] = [
  [[3, 5], 1, 7],
  [[4, 3], 0, 2],
  [[2, 5, 3], 1, 9],
  [[6], 0, 1],
];

checkOps(SHAPES.flatMap(([shape, axis, count]): OpCase[] => {
  const own = shape.with(axis, count), ids = indices(own, shape[axis]);
  return [{
    name: `gather ${count} along axis ${axis} of [${shape}]`,
    inputs: [{ shape }, ids],
    op: (x, ids) => gather(x, ids, { axis: axis - shape.length }),
    reference: gatherReference(axis),
  }, {
    name: `scatterAdd ${count} along axis ${axis} of [${shape}]`,
    inputs: [{ shape }, { shape: own }, ids],
    op: (x, updates, indices) => scatterAdd(x, { updates, indices }, { axis }),
    reference: scatterReference(axis),
  }];
}));

Deno.test("indices outside the axis are refused on the host; computed ones give NaN, or are ignored", async () => {
  const x = tensor([1, 2, 3]), bad = tensor(new Int32Array([0, 3]));
  const text = "ids must be from 0 to 2: got 3";
  assertThrows(() => gather(x, bad), InputError, `Cannot apply "gather" as ${text}`);
  assertThrows(
    () => scatterAdd(x, { indices: bad, updates: fill(1, [2]) }),
    InputError,
    `Cannot apply "scatterAdd" as ${text}`,
  );
  await using gpu = await openGpu();
  // Numbers that the device computes.
  const computed = integers(fill(3, [2]));
  const [taken, added] = await readAll(gpu, [
    gather(x, computed),
    scatterAdd(x, { indices: computed, updates: fill(1, [2]) }),
  ]);
  assertEquals([[...taken], [...added]], [[NaN, NaN], [1, 2, 3]]);
});

Deno.test("scatterAdd sums in the order of the updates", async () => {
  await using gpu = await openGpu();
  // (1e8 + 1) - 1e8 is 0 in f32, (1e8 - 1e8) + 1 is 1.
  const zero = fill(0, [1]), indices = tensor(new Int32Array([0, 0, 0]));
  assertEquals([...await read(gpu, scatterAdd(zero, { indices, updates: tensor([1e8, 1, -1e8]) }))], [0]);
  assertEquals([...await read(gpu, scatterAdd(zero, { indices, updates: tensor([1e8, -1e8, 1]) }))], [1]);
});
