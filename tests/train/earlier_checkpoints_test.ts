/** Checkpoints are a file format: those that an earlier version wrote go on as they did there. */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  cosine,
  defineTraining,
  linearRate,
  nextTokenLoss,
  openGpu,
  read,
  sgd,
  tensor,
  type TokenBatch,
  type TrainingOptions,
} from "@firn/train";
import { loadCheckpoint } from "@firn/train/checkpoint";
import { newModel } from "@firn/train/hub";
import {
  anyOf,
  atMost,
  below,
  closePrefix,
  costAware,
  earlyStopping,
  every,
  gradES,
  hysteresis,
  keepActive,
  layerLinears,
  only,
  patience,
  prefix,
  randomSubset,
  rotate,
  schedule,
  smooth,
  snr,
  sticky,
  thaw,
} from "@firn/train/policies";
import { assertAlmostEquals, assertEquals } from "@std/assert";

/** What the version that wrote the checkpoints computed after them. */
interface Continued {
  readonly loss: readonly number[];
  readonly frozen: readonly (readonly string[])[];
}

const FOLDER = new URL("../fixtures/checkpoints/", import.meta.url);
const STEPS = 16;

const SOURCE = {
  model_type: "llama",
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 32,
  max_position_embeddings: 16,
  tie_word_embeddings: true,
};

/** One policy of each kind whose state has members of its own. */
const everyPolicy = () =>
  anyOf(
    only(
      layerLinears,
      sticky(patience(2, smooth(0.5, every(2, below("gradNorm", { "*.mlp.*": 0.6, "*": 0.01 }))))),
    ),
    thaw(hysteresis("gradNorm", { low: 0.5, high: 0.9 }), { count: 2, every: 2 }),
    snr(),
    costAware({ targetSpeedup: 1.2 }),
    atMost(0.5, closePrefix(schedule({ first: 0.3, spacing: "linear" }))),
    only("model.layers.1.*", rotate({ every: 3, active: 1 })),
    keepActive("*norm*", randomSubset({ share: 0.1, every: 2, seed: 3 })),
    prefix(),
    earlyStopping({ patience: 20, minDelta: 0 }),
    gradES({ tau: 0.2, alpha: 0.3, metric: "gradDelta" }),
  );

const RUNS: Readonly<Record<string, () => TrainingOptions<TokenBatch>>> = {
  adamw: () => ({
    optimizer: chain(
      clipByGlobalNorm(1, { over: "all" }),
      adamW({ learningRate: cosine({ peak: 1e-2, warmup: 2, steps: STEPS }), weightDecay: 0.1 }),
    ),
    policy: everyPolicy(),
    lookEvery: 2,
    steps: STEPS,
    validation: { batches: [batchOf(99)], every: 4 },
  }),
  costAware: () => ({
    optimizer: adamW({ learningRate: 1e-2 }),
    policy: costAware({ targetSpeedup: 1.2 }),
    lookEvery: 1,
    steps: STEPS,
  }),
  sgd: () => ({
    optimizer: sgd({ learningRate: linearRate({ peak: 0.1, warmup: 1, steps: STEPS }), momentum: 0.9 }),
    lookEvery: 1,
    steps: STEPS,
  }),
};

function batchOf(seed: number): TokenBatch {
  const ids = tensor(Int32Array.from({ length: 18 }, (_, i) => (i * 7 + seed * 5) % 32), [2, 9]);
  return { inputIds: ids, labels: ids };
}

for (const [name, optionsOf] of Object.entries(RUNS)) {
  Deno.test(`a checkpoint that version 0.1.0 wrote at step 7 continues as it did there: ${name}`, async () => {
    const expected: Continued = JSON.parse(await Deno.readTextFile(new URL("continued.json", FOLDER)))[name];
    await using gpu = await openGpu();
    const model = await newModel(gpu, { source: SOURCE, seed: 1 });
    using training = defineTraining<object, TokenBatch>(gpu, nextTokenLoss(model), optionsOf());
    const saved = await loadCheckpoint(decodeURIComponent(new URL(`${name}.safetensors`, FOLDER).pathname));
    let state = await training.resume(saved);
    assertEquals(state.step, 7);
    for (const [i, loss] of expected.loss.entries()) {
      state = await training.next(state, batchOf(state.step + 1));
      // The checkpoint may be of another adapter: its kernels round otherwise.
      assertAlmostEquals((await read(gpu, state.loss!))[0], loss, 1e-4);
      assertEquals(state.frozen, expected.frozen[i]);
    }
    assertEquals(state.done, false);
  });
}
