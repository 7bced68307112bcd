import { assertEquals } from "@std/assert";
import {
  adamW,
  defineTraining,
  flatten,
  free,
  type Gpu,
  leaf,
  newModel,
  nextTokenLoss,
  openGpu,
  type Path,
  type Spec,
  type TensorTree,
  unflatten,
} from "@firn/train";
import type { LlamaParams, Model, TokenBatch } from "@firn/train/models";
import { bytesOf } from "../../core/gpu/plan.ts";
import { planFor } from "../../core/gpu/run.ts";
import { stateSpecs, traceStep } from "../../core/loop/trace.ts";
import { llamaSource, scheduled, tokenBatch } from "./tiny.ts";

const LOOK_EVERY = 2;
const optimizer = adamW({ learningRate: 0.01 });
const batch = tokenBatch([2, 8]);

function total(specs: Iterable<Spec>): number {
  return [...specs].reduce((n, spec) => n + bytesOf(spec), 0);
}

/** Bytes of the state besides parameters, and of what a step needs besides the state, as planned. */
function planned(gpu: Gpu, model: Model<LlamaParams>, active: (path: Path) => boolean) {
  const ring = [LOOK_EVERY, 1] as const;
  const leaves = new Map([...flatten(model.params)].map(([path, t]) => [path, leaf(path, t)]));
  const inputs = new Map([...flatten(batch)].map(([path, t]) => [path, leaf(`batch.${path}`, t)]));
  const loss = nextTokenLoss(model)(
    unflatten(leaves) as TensorTree as LlamaParams,
    unflatten(inputs) as TensorTree as TokenBatch,
  );
  const trained = new Map([...leaves].filter(([path]) => active(path)));
  const graph = traceStep({ loss, active: trained, optimizer, signals: [], ring });
  const { slots, buffers, launches } = planFor(gpu, graph.roots, graph.updates);
  const used = new Set(launches.flatMap(({ bindings }) => bindings));
  const constants = buffers.filter(({ source }, i) =>
    used.has(i) && (source.kind === "host" || source.kind === "scalars")
  );
  return {
    state: total(stateSpecs(trained, { optimizer, signals: [] }).values()) + bytesOf({ shape: ring }) +
      bytesOf({ shape: [] }),
    step: slots.reduce((a, b) => a + b, 0) + constants.reduce((n, { bytes }) => n + bytes, 0),
    inputs: total(inputs.values()),
  };
}

Deno.test("next allocates the bytes that the plan tells, and frees those of what froze", async () => {
  await using gpu = await openGpu();
  const model = await newModel<LlamaParams>(gpu, { source: llamaSource({ layers: 2, tied: true }), seed: 1 });
  const weights = total(flatten(model.params).values());
  assertEquals(gpu.counts.bytes, weights);

  const training = defineTraining<LlamaParams, TokenBatch>(gpu, nextTokenLoss(model), {
    optimizer,
    steps: 10,
    lookEvery: LOOK_EVERY,
    policy: scheduled([{ from: 2, frozen: ["model.layers.0.mlp.up_proj"] }]),
  });
  const all = planned(gpu, model, () => true);
  const some = planned(gpu, model, (path) => path !== "model.layers.0.mlp.up_proj.weight");
  let state = await training.init(model.params);
  assertEquals(gpu.counts.bytes, 2 * weights + all.state);
  state = await training.next(state, batch);
  assertEquals(gpu.counts.bytes, 2 * weights + all.state + all.step + all.inputs);
  assertEquals(gpu.counts.peakBytes, gpu.counts.bytes);
  free(model.params);
  assertEquals(gpu.counts.bytes, weights + all.state + all.step + all.inputs);

  const staging = 65536; // The first look keeps it for those that follow.
  state = await training.next(state, batch);
  assertEquals(state.frozen.length, 1);
  assertEquals(gpu.counts.bytes, weights + some.state + all.step + all.inputs + staging);
  state = await training.next(state, batch);
  assertEquals(gpu.counts.bytes, weights + some.state + some.step + all.inputs + staging);
  training[Symbol.dispose]();
  assertEquals(gpu.counts.bytes, weights + some.state + staging);
  free(state.params);
  free(state.params);
  assertEquals(gpu.counts.bytes, some.state + staging);
});
