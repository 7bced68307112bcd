import { assert, assertEquals } from "@std/assert";
import {
  adamW,
  defineTraining,
  flatten,
  free,
  type Gpu,
  leaf,
  matmul,
  mean,
  multiply,
  nextTokenLoss,
  openGpu,
  type Path,
  type Signal,
  sizeOf,
  type Spec,
  type Tensor,
  tensor,
  type TensorTree,
  unflatten,
} from "@firn/train";
import { newModel } from "@firn/train/hub";
import type { LlamaParams, Model, TokenBatch } from "@firn/train/models";
import { bytesOf } from "../../core/plan/storage.ts";
import { plan } from "../../core/plan/plan.ts";
import { stateSpecs } from "../../core/train/state/specs.ts";
import { traceStep } from "../../core/train/step/trace.ts";
import { llamaSource, scheduled, tokenBatch } from "./tiny.ts";
import { builtIn } from "../../core/train/freeze/built_in_signals.ts";

const LOOK_EVERY = 2;
const optimizer = adamW({ learningRate: 0.01 });
const batch = tokenBatch([2, 8]);

function total(specs: Iterable<Spec>): number {
  return [...specs].reduce((n, spec) => n + bytesOf(spec), 0);
}

/** Bytes of the state besides parameters, and of what a step needs besides the state, as planned. */
function planned(
  gpu: Gpu,
  model: Model<LlamaParams>,
  { signals, active }: { readonly signals: readonly Signal[]; active(path: Path): boolean },
) {
  const ring = [LOOK_EVERY, 1 + signals.length * flatten(model.params).size] as const;
  const leaves = new Map([...flatten(model.params)].map(([path, t]) => [path, leaf(path, t)]));
  const inputs = new Map([...flatten(batch)].map(([path, t]) => [path, leaf(`batch.${path}`, t)]));
  const loss = nextTokenLoss(model)(
    unflatten(leaves) as TensorTree as LlamaParams,
    unflatten(inputs) as TensorTree as TokenBatch,
  );
  const trained = new Map([...leaves].filter(([path]) => active(path)));
  const defined = signals.map(builtIn);
  const graph = traceStep({ loss, active: trained, optimizer, signals: defined, ring });
  const { slots, buffers, launches } = plan(graph.roots, { target: gpu.target, ...graph });
  const used = new Set(launches.flatMap(({ bindings }) => bindings));
  const constants = buffers.filter(({ source }, i) =>
    used.has(i) && (source.kind === "host" || source.kind === "scalars")
  );
  return {
    state: total(stateSpecs(trained, { optimizer, signals: defined }).values()) + bytesOf({ shape: ring }) +
      bytesOf({ shape: [] }),
    step: slots.reduce((a, b) => a + b, 0) + constants.reduce((n, { bytes }) => n + bytes, 0),
    inputs: total(inputs.values()),
  };
}

for (const signals of [[], ["gradDelta"]] as const) {
  Deno.test(`next allocates the bytes that the plan tells, and frees those of what froze: [${signals}]`, async () => {
    await using gpu = await openGpu();
    const model = await newModel<LlamaParams>(gpu, {
      source: llamaSource({ layers: 2, tied: true }),
      seed: 1,
    });
    const weights = total(flatten(model.params).values());
    assertEquals(gpu.counts.bytes, weights);

    const training = defineTraining<LlamaParams, TokenBatch>(gpu, nextTokenLoss(model), {
      optimizer,
      steps: 10,
      lookEvery: LOOK_EVERY,
      policy: scheduled([{ from: 2, frozen: ["model.layers.0.mlp.up_proj"] }], signals),
    });
    const all = planned(gpu, model, { signals, active: () => true });
    const some = planned(gpu, model, {
      signals,
      active: (path) => path !== "model.layers.0.mlp.up_proj.weight",
    });
    let state = await training.init(model.params);
    assertEquals(gpu.counts.bytes, 2 * weights + all.state);
    state = await training.next(state, batch);
    assertEquals(gpu.counts.bytes, 2 * weights + all.state + all.step + all.inputs);
    assertEquals(gpu.counts.peakBytes, gpu.counts.bytes);
    assertEquals(state.cost!.memory + state.cost!.constants, all.step);
    free(model.params);
    assertEquals(gpu.counts.bytes, weights + all.state + all.step + all.inputs);

    const staging = 65536; // The first look keeps it for those that follow.
    state = await training.next(state, batch);
    assertEquals(state.frozen.length, 1);
    const kept = gpu.counts.bytes - (weights + some.state + all.inputs + staging);
    assert(kept > 0 && kept <= some.step, `${kept} bytes of the step before stay for the step after`);
    state = await training.next(state, batch);
    assertEquals(gpu.counts.bytes, weights + some.state + some.step + all.inputs + staging);
    training[Symbol.dispose]();
    assertEquals(gpu.counts.bytes, weights + some.state + staging);
    free(state.params);
    free(state.params);
    assertEquals(gpu.counts.bytes, some.state + staging);
  });
}

/** A chain of products `x a b c d`, whose gradients need no value but the operands of the products. */
function chainOf(sizes: readonly number[]): {
  readonly params: Record<string, { readonly weight: Tensor }>;
  loss(params: Record<string, { readonly weight: Tensor }>, batch: { readonly x: Tensor }): Tensor;
} {
  const names = ["a", "b", "c", "d"];
  const weight = (i: number): Tensor => {
    const shape = [sizes[i], sizes[i + 1]];
    return tensor(Float32Array.from({ length: sizeOf(shape) }, (_, e) => Math.sin(e) / sizes[i]), shape);
  };
  return {
    params: Object.fromEntries(names.map((name, i) => [name, { weight: weight(i) }])),
    loss(params, { x }) {
      const y = names.reduce((y, name) => matmul(y, params[name].weight), x);
      return mean(multiply(y, y));
    },
  };
}

/** Bytes on the device and in the plan after a step with all active, at the look that freezes, and a step later. */
async function frozenBytes(
  sizes: readonly number[],
  { rows, frozen }: { readonly rows: number; readonly frozen: Path },
): Promise<{ readonly device: number[]; readonly plan: number[] }> {
  await using gpu = await openGpu();
  const { params, loss } = chainOf(sizes);
  const training = defineTraining(gpu, loss, {
    optimizer,
    steps: 10,
    lookEvery: 1,
    policy: scheduled([{ from: 3, frozen: [frozen] }]),
  });
  const x = {
    x: tensor(Float32Array.from({ length: rows * sizes[0] }, (_, i) => Math.cos(i)), [rows, sizes[0]]),
  };
  const device: number[] = [], plan: number[] = [];
  let state = await training.init(params);
  while (state.step < 4) {
    state = await training.next(state, x);
    device.push(gpu.counts.bytes);
    plan.push(state.cost!.memory);
  }
  return { device: device.slice(1), plan: plan.slice(1) };
}

Deno.test("freezing frees the moments of a weight, and its gradient, at the look that froze it", async () => {
  // The weights dwarf the activations.
  const bytes = 4 * 256 * 256, rows = 4;
  const { device: [before, at, after], plan: [all, , some] } = await frozenBytes([4, 256, 256, 4, 4], {
    rows,
    frozen: "b",
  });
  assertEquals(before - after, 2 * bytes + all - some);
  // The gradient, and the output of `a`, which only that needed.
  assertEquals(all - some, bytes + 4 * rows * 256);
  // Its gradient and its moments are given back at once; what the new step takes over stays.
  assert(before - at >= 3 * bytes, `${before - at} bytes freed at the look`);
  assert(after - at <= all - some, `${after - at} bytes taken anew`);
});

Deno.test("freezing frees an activation that only the gradient of the frozen weight needed", async () => {
  // The outputs of a and c dwarf the rest. That of a waits for the gradient of b; without it, that of c takes its place.
  const rows = 256, wide = 64, activation = 4 * rows * wide;
  const { device: [before, , after], plan: [all, , some] } = await frozenBytes([4, wide, 4, wide, 4], {
    rows,
    frozen: "b",
  });
  const moments = 2 * 4 * wide * 4;
  assertEquals(before - after, moments + all - some);
  assert(all - some >= activation, `the plan shrank by ${all - some}, the activation has ${activation}`);
});
