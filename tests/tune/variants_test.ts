import { assert, assertEquals } from "@std/assert";
import {
  defineTraining,
  free,
  freeState,
  type Gpu,
  grad,
  nextTokenLoss,
  openGpu,
  readAll,
  sgd,
  type Tensor,
  tensor,
  type TokenBatch,
} from "@firn/train";
import { linearCrossEntropy } from "@firn/train/ops";
import { newModel } from "@firn/train/hub";
import { plan } from "../../core/plan/plan.ts";
import { leaf } from "../../core/sources.ts";
import { llamaSource, tokenBatch, valuesOf } from "../train/tiny.ts";
import { assertNear, random } from "../reference/values.ts";
import { cutAll, cutBy, tile } from "../plan/cut.ts";

/** As many f32 roundings as these sums have terms, some hundred at most, and their order differs. */
const TOLERANCE = 1e-5;

const ROWS = 150, WIDTH = 20, CLASSES = 97;
const hidden = tensor(Float32Array.from(random([ROWS, WIDTH], { seed: 1 }).data), [ROWS, WIDTH]);

/** Loss and gradients of scores in chunks of 64 rows, 104 elements each; two thirds of the rows count. */
function headRoots(): Tensor[] {
  const weight = tensor(Float32Array.from(random([CLASSES, WIDTH], { seed: 2 }).data), [CLASSES, WIDTH]);
  const labels = tensor(Int32Array.from({ length: ROWS }, (_, i) => i % 3 === 0 ? -100 : i % CLASSES));
  const loss = linearCrossEntropy(hidden, { weight, labels, bytes: 64 * 4 * 104 });
  return [loss, ...grad(loss, [hidden, weight])];
}

/** Parameters after two steps of a small Llama, and the loss. */
async function train(gpu: Gpu): Promise<ReadonlyMap<string, ArrayLike<number>>> {
  const model = await newModel(gpu, { source: llamaSource({ layers: 1, tied: true }), seed: 3 });
  const training = defineTraining<object, TokenBatch>(gpu, nextTokenLoss(model), {
    optimizer: sgd({ learningRate: 0.1 }),
    steps: 2,
  });
  let state = await training.init(model.params);
  for (const seed of [1, 2]) state = await training.next(state, tokenBatch([2, 16], seed));
  const result = new Map<string, ArrayLike<number>>([
    ...await valuesOf(gpu, state.params as Parameters<typeof valuesOf>[1]),
    ["loss", (await readAll(gpu, [state.loss!]))[0]],
  ]);
  training[Symbol.dispose]();
  free(model.params);
  freeState(state);
  return result;
}

Deno.test("plan cuts every product as its target says, and sums over chunks by whole sums", async () => {
  await using gpu = await openGpu();
  for (const split of [1, 3]) {
    const { launches } = plan(headRoots(), {
      target: cutBy({ ...gpu.target, software: false }, tile(split)),
    });
    const products = launches.map(({ kernel }) => kernel.name).filter((name) => name.startsWith("matmul"));
    // Scores, hidden states and weight, in three chunks each; the weight's second and third are added as they are stored.
    const shared = products.filter((name) => name.endsWith(` split ${split}`)).length;
    assertEquals([products.length, shared], [9, split === 1 ? 0 : 7], products.join("\n"));
    assertEquals(products.some((name) => name.includes("direct")), false);
  }
});

Deno.test("plan finds whole sums for a head's gradient where every other product would be shared", () => {
  const target = { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 32 };
  for (const [classes, width, rows] of [[4096, 128, 16384], [256, 384, 262144]]) {
    const hidden = leaf("hidden", { shape: [rows, width], dtype: "f32" });
    const weight = leaf("weight", { shape: [classes, width], dtype: "f32" });
    const labels = leaf("labels", { shape: [rows], dtype: "i32" });
    const { launches } = plan(grad(linearCrossEntropy(hidden, { weight, labels }), [weight]), { target });
    assertEquals(launches.some(({ kernel }) => kernel.name.startsWith("matmul")), true);
  }
});

Deno.test("linearCrossEntropy and its gradients are the same by tiles, whole and shared, as by blocks", async () => {
  await using gpu = await openGpu();
  const expected = await readAll(gpu, headRoots());
  for (const split of [1, 3]) {
    const seen = await readAll(cutAll(gpu, tile(split)), headRoots());
    const what = `by ${split} workgroups a sum`;
    expected.forEach((values, i) =>
      assertNear(seen[i], values, { tolerance: TOLERANCE, what: `root ${i} ${what}` })
    );
  }
});

Deno.test("training is the same by tiles, whole and shared, as by blocks", async () => {
  await using gpu = await openGpu();
  const expected = await train(gpu);
  assert(expected.size > 10);
  for (const split of [1, 3]) {
    const seen = await train(cutAll(gpu, tile(split)));
    for (const [path, values] of expected) {
      const what = `${path} by ${split} workgroups a sum`;
      assertNear(seen.get(path)!, values, { tolerance: TOLERANCE, what });
    }
  }
});
