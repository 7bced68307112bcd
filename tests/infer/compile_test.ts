/** Functions that are recorded once: values, when they are planned again, and what they refuse. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  add,
  cast,
  ConsumedError,
  defineTraining,
  evaluate,
  fill,
  free,
  type Gpu,
  InputError,
  matmul,
  mean,
  multiply,
  readAll,
  sgd,
  sum,
  type Tensor,
  tensor,
} from "@firn/train";
import { loadModel } from "@firn/train/hub";
import { compile } from "@firn/train/infer";
import type { LlamaParams } from "@firn/train/models";
import { argmax } from "@firn/train/ops";
import { openTestGpu } from "../reference/open_gpu.ts";
import { assertNear } from "../reference/values.ts";
import { type Mlp, mlpLoss, newMlp, pairs } from "../train/tiny.ts";

const gpu: Gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const batches = pairs(4);

Deno.test("compile gives the bits of evaluate and read, whatever comes before", async () => {
  const params = newMlp();
  using loss = compile(gpu, (params: Mlp, batch: typeof batches[number]) => mlpLoss(params, batch));
  const { losses } = await evaluate(gpu, { loss: mlpLoss, params, batches });
  for (const turn of [0, 1]) {
    for (const [i, batch] of batches.entries()) {
      const [value] = await loss(params, batch);
      assertEquals(value, losses[i], `turn ${turn}, batch ${i}`);
    }
  }
  assertEquals(loss.recorded, 1);
  const [read] = await readAll(gpu, [mlpLoss(params, batches[2])]);
  assertEquals(await loss(params, batches[2]), read);
});

Deno.test("a second call plans nothing, compiles nothing, makes no buffer and submits once and once more to read", async () => {
  let traced = 0;
  using twice = compile(gpu, (x: Tensor) => {
    traced++;
    return multiply(x, 2);
  });
  await twice(tensor([1, 2, 3, 4, 5]));
  await twice(tensor([1, 2, 3, 4, 5]));
  const before = { ...gpu.counts };
  assertEquals([...await twice(tensor([5, 4, 3, 2, 1]))], [10, 8, 6, 4, 2]);
  assertEquals({ ...gpu.counts }, { ...before, submits: before.submits + 2 });
  assertEquals([traced, twice.recorded], [1, 1]);
});

Deno.test("other shapes and types are recorded anew, and the recording that was not used for longest goes", async () => {
  using total = compile(gpu, (x: Tensor) => sum(cast(x)), { most: 2 });
  const of = async (values: Float32Array | Int32Array): Promise<number> => (await total(tensor(values)))[0];
  assertEquals(await of(Float32Array.of(1, 2)), 3);
  assertEquals(await of(Int32Array.of(1, 2)), 3);
  assertEquals(total.recorded, 2);
  assertEquals(await of(Float32Array.of(4, 2)), 6);
  const before = gpu.counts.bytes;
  assertEquals(await of(Float32Array.of(1, 2, 3)), 6);
  assertEquals([total.recorded, gpu.counts.bytes <= before + 64], [3, true]);
  assertEquals(await of(Float32Array.of(7, 2)), 9);
  assertEquals(total.recorded, 3);
  assertEquals(await of(Int32Array.of(1, 5)), 6);
  assertEquals(total.recorded, 4);
});

Deno.test("results are records as the function makes them: integers, an argument itself, one tensor twice, a constant", async () => {
  using all = compile(gpu, ({ x }: { x: Tensor }, y: Tensor) => {
    const z = add(x, y);
    return { z: { z, again: z }, best: argmax(z, -1), x, ones: fill(1, [2]) };
  });
  const found = await all({ x: tensor([1, 2]) }, tensor([5, 1]));
  assertEquals(found, {
    z: { z: Float32Array.of(6, 3), again: Float32Array.of(6, 3) },
    best: Int32Array.of(0),
    x: Float32Array.of(1, 2),
    ones: Float32Array.of(1, 1),
  });
});

Deno.test("a function that is given the parameters of a training sees each step; one that refers to them says that they are gone", async () => {
  const training = defineTraining<Mlp, typeof batches[number]>(gpu, mlpLoss, {
    optimizer: sgd({ learningRate: 0.05 }),
    steps: 3,
  });
  let state = await training.init(newMlp());
  const start = state;
  using loss = compile(gpu, (params: Mlp) => mlpLoss(params, batches[0]));
  using stale = compile(gpu, () => mlpLoss(start.params, batches[0]));
  const losses = [(await loss(state.params))[0]];
  assertEquals((await stale())[0], losses[0]);
  for (const batch of batches.slice(0, 3)) {
    state = await training.next(state, batch);
    losses.push((await loss(state.params))[0]);
    const { losses: [own] } = await evaluate(gpu, {
      loss: mlpLoss,
      params: state.params,
      batches: [batches[0]],
    });
    assertEquals(losses.at(-1), own);
  }
  assertEquals([new Set(losses).size, loss.recorded], [4, 1]);
  await assertRejects(() => loss(start.params), ConsumedError);
  await assertRejects(() => stale(), ConsumedError);
});

Deno.test("a tensor that must be computed is part of the recording, and a freed one is refused", async () => {
  using product = compile(gpu, (a: Tensor, b: Tensor) => matmul(a, b));
  const a = tensor([1, 2, 3, 4], [2, 2]), b = multiply(a, 2);
  assertEquals([...await product(a, b)], [14, 20, 30, 44]);
  assertEquals([...await product(b, a)], [14, 20, 30, 44]);
  assertEquals([...await product(a, b)], [14, 20, 30, 44]);
  assertEquals(product.recorded, 2);
  const training = defineTraining(gpu, ({ w }: { w: Tensor }, { x }: { x: Tensor }) => mean(multiply(w, x)), {
    optimizer: sgd({ learningRate: 1 }),
    steps: 1,
  });
  const { params: { w } } = await training.init({ w: a });
  await product(w, a);
  free({ w });
  await assertRejects(() => product(w, a), InputError, "was freed");
});

Deno.test("weights in fewer bytes are arguments and results like others", async () => {
  for (const storage of ["int8", "nf4"] as const) {
    const { params } = await loadModel<LlamaParams>(gpu, "examples/models/sotu", { storage });
    const { weight } = params.model.layers[0].mlp.up_proj, { shape, dtype } = weight;
    assert(dtype !== "f32", storage);
    using twice = compile(gpu, ({ w }: { w: Tensor }) => ({ w, all: sum(multiply(w, w), [1]) }));
    const found = await twice({ w: weight });
    const [w, all] = await readAll(gpu, [weight, sum(multiply(weight, weight), [1])]);
    assertEquals(found.all, all);
    // The host unpacks what is only read, and may round otherwise.
    assertNear(found.w, Float64Array.from(w), { tolerance: 1e-7, what: storage });
    assertEquals(found.w.length, shape[0] * shape[1]);
    free(params);
  }
});

Deno.test("calls at the same time do not mix their arguments", async () => {
  using twice = compile(gpu, (x: Tensor) => multiply(x, 2));
  const found = await Promise.all([1, 2, 3].map((value) => twice(tensor([value, value + 0.5]))));
  assertEquals(found.map((values) => [...values]), [[2, 3], [4, 5], [6, 7]]);
});

Deno.test("a step that reuses the buffers of an argument while a call is recorded has that call refused", async () => {
  using training = defineTraining<Mlp, typeof batches[number]>(gpu, mlpLoss, {
    optimizer: sgd({ learningRate: 0.05 }),
    steps: 3,
  });
  const state = await training.next(await training.init(newMlp()), batches[0]);
  using loss = compile(gpu, (params: Mlp) => mlpLoss(params, batches[3]));
  const refused = assertRejects(() => loss(state.params), ConsumedError);
  const next = await training.next(state, batches[1]);
  await refused;
  assertEquals((await loss(next.params)).length, 1);
});

Deno.test("compile frees what it made, once, and refuses calls from then on", async () => {
  const before = gpu.counts.bytes;
  const twice = compile(gpu, (x: Tensor) => multiply(x, 2));
  await twice(tensor([1]));
  assert(gpu.counts.bytes > before);
  const last = twice(tensor([3]));
  twice[Symbol.dispose]();
  twice[Symbol.dispose]();
  assertEquals([...await last], [6]);
  await assertRejects(
    () => twice(tensor([1])),
    InputError,
    "Cannot call a compiled function as it was disposed",
  );
  assertEquals(gpu.counts.bytes, before);
});

Deno.test("compile refuses what is no function, arguments and results that are no trees, and what its function throws", async () => {
  assertThrows(() => compile(gpu, tensor([1]) as never), InputError, "it takes a function of tensors");
  assertThrows(() => compile(gpu, (x: Tensor) => x, { most: 0 }), InputError, '"most"');
  using twice = compile(gpu, (x: Tensor) => multiply(x, 2));
  for (const wrong of [3, null, undefined, "x"]) {
    await assertRejects(() => twice(wrong as never), InputError, "argument 0 must be a tensor or a record");
  }
  await assertRejects(() => twice([tensor([1])] as never), InputError, "a tree has no lists");
  await assertRejects(() => twice({ x: 3 } as never), InputError, "a tree holds tensors and records");
  using none = compile(gpu, (_: Tensor) => ({}));
  await assertRejects(() => none(tensor([1])), InputError, "must return at least one tensor");
  using text = compile(gpu, (_: Tensor) => "x" as never);
  await assertRejects(() => text(tensor([1])), InputError, "must return a tensor or a record");
  using wrong = compile(gpu, (x: Tensor) => matmul(x, x));
  await assertRejects(() => wrong(tensor([1, 2, 3], [1, 3])));
  assertEquals([...await wrong(tensor([2], [1, 1]))], [4]);
});
