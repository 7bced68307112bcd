import { assert, assertEquals } from "@std/assert";
import {
  add,
  crossEntropy,
  embedding,
  grad,
  leaf,
  matmul,
  openGpu,
  permute,
  readAll,
  type Tensor,
  tensor,
} from "@firn/train";
import { linearCrossEntropy } from "@firn/train/ops";
import { plan } from "../../core/plan/plan.ts";
import { bits } from "../train/tiny.ts";

const ROWS = 33, CLASSES = 40;
const waves = (rows: number, columns: number): Tensor =>
  tensor(Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i * 1.3)), [rows, columns]);
const hidden = waves(ROWS, 8), weight = waves(8, CLASSES);
const labels = tensor(Int32Array.from({ length: ROWS }, (_, i) => i % 5 === 0 ? -100 : i % CLASSES));

/** The gradient by the scores, which `others` may keep alive, from the gradient by the hidden states. */
function roots(keep: boolean): Tensor[] {
  const logits = matmul(hidden, weight);
  const [gradient] = grad(crossEntropy(logits, labels), [hidden]);
  return keep ? [gradient, logits] : [gradient];
}

Deno.test("plan writes a gradient over scores that nobody reads later, and only then", () => {
  const target = { software: true, subgroups: false, workgroupBytes: 32768, maxBindings: 8 };
  const inPlace = (keep: boolean): boolean => {
    const { launches } = plan(roots(keep), { target });
    const kernel = launches.find((launch) => launch.kernel.name.startsWith("cross_entropy_grad"))!;
    return kernel.bindings.length === 4;
  };
  assertEquals([inPlace(false), inPlace(true)], [true, false]);
});

Deno.test("plan adds up the gradient by the weight of chunked scores in one buffer", () => {
  const target = { software: false, subgroups: true, workgroupBytes: 32768, maxBindings: 8 };
  const head = leaf("head", { shape: [CLASSES, 8], dtype: "f32" });
  const loss = linearCrossEntropy(hidden, { weight: head, labels, bytes: 9 * 4 * CLASSES });
  const { launches, buffers } = plan(grad(loss, [head]), { target });
  const products = launches.filter(({ kernel }) => kernel.name.startsWith(`matmul ${CLASSES}x8`));
  assertEquals(products.map(({ bindings }) => bindings.length), [4, 4, 4, 4]);
  const slots = products.map(({ bindings }) => buffers[bindings[3]].source as { slot: number });
  assertEquals(new Set(slots.map(({ slot }) => slot)).size, 1);
});

Deno.test("plan keeps values that may share memory apart from all others while any of them lives", () => {
  const target = { software: false, subgroups: true, workgroupBytes: 32768, maxBindings: 8 };
  const x = leaf("x", { shape: [ROWS, 8], dtype: "f32" });
  const logits = matmul(x, weight);
  const [gradient] = grad(crossEntropy(logits, labels), [x]);
  const { launches, buffers } = plan([gradient], { target });
  for (const { bindings } of launches) {
    const slots = bindings.flatMap((b) => {
      const { source } = buffers[b];
      return source.kind === "slot" ? [source.slot] : [];
    });
    assert(new Set(slots).size === slots.length, "a launch binds one buffer twice");
  }
});

Deno.test("readAll gives the same bits whether a gradient is written over scores or beside them", async () => {
  await using gpu = await openGpu();
  const [alone] = await readAll(gpu, roots(false));
  const [beside] = await readAll(gpu, roots(true));
  assertEquals(bits(alone), bits(beside));
});

/** Both gradients of a table that is the head as well: their sum, and with `keep` that of the head beside it. */
function tableRoots(keep: boolean): Tensor[] {
  const table = waves(CLASSES, 8), head = waves(8, CLASSES);
  const ids = tensor(Int32Array.from({ length: ROWS }, (_, i) => (i * 3) % 7));
  const loss = crossEntropy(matmul(embedding(table, ids), head), labels);
  const [byIds, byHead] = grad(loss, [table, head]);
  const other = permute(byHead, [1, 0]);
  return keep ? [add(byIds, other), other] : [add(byIds, other)];
}

Deno.test("plan adds the gradient by ids to that by the head where nobody reads the latter alone", async () => {
  const target = { software: true, subgroups: false, workgroupBytes: 32768, maxBindings: 8 };
  const bound = (keep: boolean): number =>
    plan(tableRoots(keep), { target }).launches.find(({ kernel }) =>
      kernel.name.startsWith("embedding_grad")
    )!
      .bindings.length;
  assertEquals([bound(false), bound(true)], [4, 5]);
  await using gpu = await openGpu();
  const [alone] = await readAll(gpu, tableRoots(false));
  const [beside] = await readAll(gpu, tableRoots(true));
  assertEquals(bits(alone), bits(beside));
});
