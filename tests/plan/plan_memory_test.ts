import { assert, assertEquals } from "@std/assert";
import { adamW, chain, clipByGlobalNorm, leaf, nextTokenLoss, type Tensor, unflatten } from "@firn/train";
import { describeModel, families, type LlamaParams, modelParams, type TokenBatch } from "@firn/train/models";
import type { Target } from "../../core/kernel_call.ts";
import type { Plan, Precision } from "../../core/plan/types.ts";
import { matrixProducts } from "../../kernels/matmul/matrix_products.ts";
import { plan } from "../../core/plan/plan.ts";
import { traceStep } from "../../core/train/step/trace.ts";

const BATCH = 8, TIME = 1024;
const target = { software: false, subgroups: true, workgroupBytes: 49152, maxBindings: 32 };
/** The same with matrix units. */
const unit = { m: 16, n: 16, k: 16, operands: "f16", sums: "f32" } as const;
const withMatrices = {
  ...{ ...target, wideSubgroups: true, subgroupSize: 32 },
  ...{ matrices: [unit], units: matrixProducts },
};

/** A Llama with GPT-2's parameter count. */
const source = {
  model_type: "llama",
  hidden_size: 768,
  intermediate_size: 2048,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  vocab_size: 50257,
  max_position_embeddings: TIME,
  tie_word_embeddings: true,
};

/** The plan of a step of AdamW with clipping, which keeps all gradients to the end. */
function stepPlan(precision: Precision = "f32", device: Target = target): Plan {
  const model = describeModel(source, { families, file: "config.json" });
  const active = new Map(
    [...modelParams(model)].map(([path, { shape }]) => [path, leaf(path, { shape, dtype: "f32" })]),
  );
  const ids = (name: string): Tensor => leaf(`batch.${name}`, { shape: [BATCH, TIME], dtype: "i32" });
  const batch: TokenBatch = { inputIds: ids("inputIds"), labels: ids("labels") };
  const params = unflatten(active) as object as LlamaParams;
  const optimizer = chain(clipByGlobalNorm(1), adamW({ learningRate: 1e-4 }));
  const loss = nextTokenLoss({ ...model, params })(params, batch);
  const graph = traceStep({ loss, active, optimizer, signals: [], ring: [10, 3], precision });
  return plan(graph.roots, { target: device, updates: graph.updates, precision });
}

/** The most bytes of values that live at one launch: what no sharing of buffers can beat. */
function leastMemory({ launches, buffers, roots }: Plan): number {
  const spans = new Map<number, [number, number]>();
  launches.forEach(({ bindings }, at) => {
    for (const b of bindings) spans.set(b, [spans.get(b)?.[0] ?? at, at]);
  });
  for (const b of roots) if (spans.has(b)) spans.get(b)![1] = launches.length;
  const change = new Float64Array(launches.length + 2);
  for (const [b, [first, last]] of spans) {
    if (buffers[b].source.kind !== "slot") continue;
    change[first] += buffers[b].bytes;
    change[last + 1] -= buffers[b].bytes;
  }
  let live = 0, most = 0;
  for (const bytes of change) most = Math.max(most, live += bytes);
  return most;
}

Deno.test("plan needs 5.2 GiB at most for intermediate values of 124M parameters on 8192 tokens", () => {
  const planned = stepPlan();
  assert(planned.cost.memory < 5.2 * 2 ** 30, `${planned.cost.memory / 2 ** 30} GiB`);
  assert(planned.cost.memory <= 1.03 * leastMemory(planned));
});

Deno.test("plan needs little more than half of that with f16: scores and gradients of weights stay f32", () => {
  const { cost } = stepPlan("f16"), wide = stepPlan().cost;
  assert(cost.memory < 0.6 * wide.memory, `${cost.memory / 2 ** 30} GiB`);
  assert(cost.bytes < 0.7 * wide.bytes, `${cost.bytes / 1e9} GB`);
  assertEquals(cost.matmulFlops, wide.matmulFlops);
});

Deno.test("plan needs as much memory with f32x3 as with f32: magnitudes do not make products wait that free values", () => {
  const [single, pairs] = (["f32", "f32x3"] as const).map((precision) => stepPlan(precision, withMatrices));
  assert(pairs.launches.some(({ kernel: { name } }) => name.includes("f32x3 matrix")));
  const more = pairs.cost.memory / single.cost.memory;
  assert(more < 1.01, `${more}`);
});

Deno.test("plan gives the same launches and buffers for the same graph", () => {
  const { launches, ...rest } = stepPlan(), { launches: others, ...other } = stepPlan();
  const texts = (all: Plan["launches"]): unknown[] =>
    all.map(({ kernel, bindings }) => [kernel.code, bindings]);
  assertEquals(texts(launches), texts(others));
  assertEquals([rest.slots, rest.roots, rest.cost], [other.slots, other.roots, other.cost]);
});
