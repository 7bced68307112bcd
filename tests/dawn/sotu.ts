/**
 * Trains a part of the bundled model for some steps on the implementation of WebGPU that its first argument names, in the
 * precision that its second one names, and prints the losses and the device.
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  nextTokenLoss,
  openGpu,
  type Precision,
  scan,
} from "@firn/train";
import { tokenWindows } from "@firn/train/data";
import { loadModel } from "@firn/train/hub";

const STEPS = 20;

const [provider, precision] = Deno.args as [string, Precision?];
await using gpu = await openGpu({ gpu: provider === "dawn" ? "dawn" : "deno" });
const model = await loadModel(gpu, "examples/models/sotu");
const ids = Int32Array.from({ length: 2000 }, (_, i) => (i * 37 + (i >> 3) * 11) % 900);
const training = defineTraining(gpu, nextTokenLoss(model), {
  optimizer: chain(clipByGlobalNorm(1), adamW({ learningRate: 1e-3 })),
  // Gradients of every kind of op pass to them; each matrix would add a kernel that takes SwiftShader seconds to compile.
  trainable: (path) => /layers\.4\.(input_layernorm|mlp\.down_proj)/.test(path),
  precision,
  steps: STEPS,
  lookEvery: STEPS,
});
let losses: number[] = [];
const batches = tokenWindows(ids, { batch: 1, length: 8 }).from(1);
for await (const { look } of scan(training, await training.init(model.params), batches)) {
  if (look !== null) losses = [...look.loss];
}
const { name, target } = gpu;
console.log(JSON.stringify({ losses, name, target }));
