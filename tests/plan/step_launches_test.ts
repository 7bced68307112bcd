/**
 * How many launches a step of a small model takes: at one sequence they, and not the arithmetic, decide how long it takes.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { adamW, chain, clipByGlobalNorm, leaf, nextTokenLoss, type Tensor, unflatten } from "@firn/train";
import { describeModel, families, type LlamaParams, modelParams, type TokenBatch } from "@firn/train/models";
import { plan } from "../../core/plan/plan.ts";
import type { MatrixUnit } from "../../kernels/matrix_unit.ts";
import { matrixProducts } from "../../kernels/matmul/matrix_products.ts";
import type { Precision } from "../../core/plan/types.ts";
import { traceStep } from "../../core/train/step/trace.ts";

const LAYERS = 8, TIME = 512;

/** SmolLM2-135M with fewer layers. */
const source = {
  model_type: "llama",
  hidden_size: 576,
  intermediate_size: 1536,
  num_hidden_layers: LAYERS,
  num_attention_heads: 9,
  num_key_value_heads: 3,
  vocab_size: 49152,
  max_position_embeddings: TIME,
  tie_word_embeddings: true,
};

/** The names of the launches of a step. */
function launchesOf(precision: Precision, maxBindings: number, frozen = /^$/): string[] {
  const model = describeModel(source, { families, file: "config.json" });
  const leaves = new Map(
    [...modelParams(model)].map(([path, { shape }]) => [path, leaf(path, { shape, dtype: "f32" })]),
  );
  const active = new Map([...leaves].filter(([path]) => !frozen.test(path)));
  const ids = (name: string): Tensor => leaf(`batch.${name}`, { shape: [1, TIME], dtype: "i32" });
  const batch: TokenBatch = { inputIds: ids("inputIds"), labels: ids("labels") };
  const params = unflatten(leaves) as object as LlamaParams;
  const optimizer = chain(clipByGlobalNorm(1), adamW({ learningRate: 1e-4 }));
  const loss = nextTokenLoss({ ...model, params })(params, batch);
  const graph = traceStep({ loss, active, optimizer, signals: [], ring: [10, 3], precision });
  const matrices: readonly MatrixUnit[] = [{ m: 16, n: 16, k: 16, operands: "f16", sums: "f32" }];
  const device = {
    software: false,
    subgroups: true,
    wideSubgroups: true,
    subgroupSize: 32,
    workgroupBytes: 49152,
  };
  const target = { ...device, maxBindings, matrices, units: matrixProducts };
  return plan(graph.roots, { target, updates: graph.updates, precision }).launches.map(({ kernel }) =>
    kernel.name
  );
}

const count = (names: readonly string[], part: RegExp): number =>
  names.filter((name) => part.test(name)).length;

Deno.test("a step of eight layers of SmolLM2 takes 32 launches a layer at most, 43 without matrix units and one that tells what clips", () => {
  const [dawn, native] = [launchesOf("f16", 16), launchesOf("f32", 32)];
  assert(dawn.length <= 32 * LAYERS, `${dawn.length}`);
  assert(native.length <= 43 * LAYERS + 1, `${native.length}`);
});

Deno.test("the gradients of attention share a launch on matrix units, where each alone leaves a part of the device idle", () => {
  const names = launchesOf("f16", 16);
  assertEquals(count(names, /^attention_grad_kv .* \| attention_grad_q /), LAYERS);
});

Deno.test("queries and keys of a layer are rotated in one launch, and so are their gradients", () => {
  const names = launchesOf("f16", 16);
  assertEquals(count(names, /^rotary [\dx]+ \| rotary [\dx]+$/), 2 * LAYERS);
  assertEquals(count(names, /^rotary [\dx]+$/), 0);
});

Deno.test("the gradients of gate and up are computed as the product that both read is stored", () => {
  const names = launchesOf("f16", 16);
  assertEquals(count(names, /^[a-z+.]*multiply[a-z+.]* 1x512x1536/), 0, names.join("\n"));
});

Deno.test("gradients of weights share launches with gradients of activations until some weights are frozen", () => {
  const together = /summed 512x576x1536.* \| matmul|matmul .* \| matmul 2 summed 512x576x1536/;
  assertEquals(count(launchesOf("f16", 16), together), LAYERS);
  const some = launchesOf("f16", 16, /layers\.[135].*(gate|up)_proj/);
  // A frozen set has neither kernel in other combinations: else each would need shaders of its own.
  assertEquals(count(some, together), 0);
  assertEquals(count(some, /^matmul 2 summed 512x576x1536/), LAYERS);
});
