/**
 * Toy families for tasks that no model file has yet: classes of images, without ids or a vocabulary, of sequences and of
 * tokens.
 *
 * @module
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  adamW,
  classLoss,
  defineTraining,
  type Family,
  flatten,
  grad,
  type ImageBatch,
  type ImageInput,
  InputError,
  logits,
  mean,
  type Model,
  nextTokenLoss,
  read,
  readAll,
  reshape,
  tanh,
  type Tensor,
  tensor,
  type TokenInput,
  unflatten,
} from "@firn/train";
import { generate } from "@firn/train/infer";
import { loadAdapter, loadModel, newModel, saveAdapter, saveModel } from "@firn/train/hub";
import type { ConfigReader, Head } from "@firn/train/models";
import {
  embedding,
  embeddingParams,
  type EmbeddingSpec,
  linear,
  linearParams,
  type LinearSpec,
  type ParamsOf,
  stored,
} from "@firn/train/nn";
import { openSafetensors } from "@firn/train/data";
import { upload } from "../../core/runtime/upload.ts";
import { assertNear } from "../reference/values.ts";
import { valuesOf } from "../train/tiny.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

interface Config {
  readonly size: number;
  readonly classes: number;
}

const parse = (read: ConfigReader): Config => ({
  size: read.count("hidden_size"),
  classes: read.count("num_labels"),
});

/** Channels of a patch. */
const PATCH = 4;

const patchSpec = (c: Config) => ({
  patches: stored("embeddings.projection", linearParams([c.size, PATCH], { bias: true })) as LinearSpec,
});
const classSpec = (c: Config) => ({
  classifier: linearParams([c.classes, c.size], { bias: true }) as LinearSpec,
});
type ImageParams = ParamsOf<typeof patchSpec> & ParamsOf<typeof classSpec>;

/** A linear layer on each patch: a family without ids, vocabulary or longest sequence. */
const patches: Family<Config, ImageParams, ImageInput> = {
  name: "patches",
  parse,
  params: patchSpec,
  hidden(params, { pixelValues }, { loraScale }) {
    const [batch, count] = pixelValues.shape;
    return linear(reshape(pixelValues, [batch, count, PATCH]), params.patches, { loraScale }); // [B, T, C]
  },
  heads: {
    PatchesForImageClassification: {
      task: "imageClass",
      params: classSpec,
      features: (hidden) => tanh(mean(hidden, 1)), // [B, C]
      output: (params) => params.classifier,
    },
  },
};

const wordSpec = (c: Config) => ({ words: embeddingParams([8, c.size]) as EmbeddingSpec });
type WordParams = ParamsOf<typeof wordSpec> & ParamsOf<typeof classSpec>;

function wordHead(task: "sequenceClass" | "tokenClass"): Head<Config, WordParams, TokenInput> {
  return {
    task,
    params: classSpec,
    features: task === "sequenceClass" ? (hidden) => mean(hidden, 1) : undefined,
    output: (params) => params.classifier,
  };
}

/** Rows of a table, with a head for sequences and one for tokens. */
const words: Family<Config, WordParams, TokenInput> = {
  name: "words",
  parse,
  params: wordSpec,
  hidden: (params, { inputIds }) => embedding(inputIds, params.words),
  heads: {
    WordsForSequenceClassification: wordHead("sequenceClass"),
    WordsForTokenClassification: wordHead("tokenClass"),
  },
};

const families = { patches, words };
const [SIZE, CLASSES] = [6, 3];

function source(model_type: string, architecture?: string): Record<string, unknown> {
  const architectures = architecture === undefined ? {} : { architectures: [architecture] };
  return { model_type, hidden_size: SIZE, num_labels: CLASSES, initializer_range: 0.5, ...architectures };
}

const images = (): Promise<Model<ImageParams, ImageInput>> =>
  newModel<ImageParams, ImageInput>(gpu, { source: source("patches"), seed: 3, families });

/** Two images of three patches. */
const pixels = Float32Array.from({ length: 2 * 3 * PATCH }, (_, i) => Math.sin(1 + i * 1.3));
const batch: ImageBatch = {
  pixelValues: tensor(pixels, [2, 3, PATCH]),
  labels: tensor(new Int32Array([2, 0])),
};

/** Mean cross-entropy of rows of scores, in float64. */
function lossOf(scores: readonly (readonly number[])[], labels: readonly number[]): number {
  const losses = scores.flatMap((row, i) =>
    labels[i] === -100 ? [] : [Math.log(row.reduce((sum, s) => sum + Math.exp(s), 0)) - row[labels[i]]]
  );
  return losses.reduce((a, b) => a + b, 0) / losses.length;
}

/** `x W^T + b` of one row. */
function row(x: readonly number[], weight: ArrayLike<number>, bias: ArrayLike<number>): number[] {
  return Array.from(bias, (b, o) => x.reduce((sum, v, i) => sum + v * weight[o * x.length + i], b));
}

const average = (rows: readonly number[][]): number[] =>
  rows[0].map((_, c) => rows.reduce((sum, one) => sum + one[c], 0) / rows.length);

Deno.test("a family without ids or a vocabulary has scores and a loss of classes of images", async () => {
  const model = await images(), values = await valuesOf(gpu, model.params);
  assertEquals([...values.keys()], [
    "patches.weight",
    "patches.bias",
    "classifier.weight",
    "classifier.bias",
  ]);
  assertEquals(model.maxLength, Infinity);
  const expected = [0, 1].map((image) => {
    const hidden = [0, 1, 2].map((patch) => {
      const start = (image * 3 + patch) * PATCH;
      return row(
        [...pixels.slice(start, start + PATCH)],
        values.get("patches.weight")!,
        values.get("patches.bias")!,
      );
    });
    return row(
      average(hidden).map(Math.tanh),
      values.get("classifier.weight")!,
      values.get("classifier.bias")!,
    );
  });
  const [scores, loss] = await readAll(gpu, [logits(model, batch), classLoss(model)(model.params, batch)]);
  assertNear(scores, Float64Array.from(expected.flat()), { tolerance: 1e-6, what: "scores" });
  assertNear(loss, [lossOf(expected, [2, 0])], { tolerance: 1e-6, what: "the loss" });
});

Deno.test("defineTraining lowers the loss of a family without ids", async () => {
  const model = await images();
  using training = defineTraining(gpu, classLoss(model), {
    optimizer: adamW({ learningRate: 0.05 }),
    steps: 20,
    lookEvery: 20,
  });
  let state = await training.init(model.params);
  while (!state.done) state = await training.next(state, batch);
  const losses = state.look!.loss;
  assert(losses.at(-1)! < 0.5 * losses[0], `${losses}`);
});

const IDS = [1, 5, 5, 2, 7, 0];

for (
  const [architecture, labels, shape] of [
    ["WordsForSequenceClassification", [1, 2], [2]],
    ["WordsForTokenClassification", [0, -100, 1, 2, 2, -100], [2, 3]],
  ] as const
) {
  Deno.test(`classLoss is the cross-entropy of the head that config.json asks for: ${architecture}`, async () => {
    const model = await newModel<WordParams>(gpu, {
      source: source("words", architecture),
      seed: 4,
      families,
    });
    const values = await valuesOf(gpu, model.params), table = values.get("words.weight")!;
    const rows = IDS.map((id) => [...table.slice(id * SIZE, id * SIZE + SIZE)]);
    const read = shape.length === 1 ? [average(rows.slice(0, 3)), average(rows.slice(3))] : rows;
    const expected = read.map((x) =>
      row(x, values.get("classifier.weight")!, values.get("classifier.bias")!)
    );
    const tokens = {
      inputIds: tensor(Int32Array.from(IDS), [2, 3]),
      labels: tensor(Int32Array.from(labels), shape),
    };
    const loss = classLoss(model)(model.params, tokens);
    assertEquals(classLoss(model).count!(tokens), labels.filter((label) => label !== -100).length);
    const [scores, value, slope] = await readAll(gpu, [
      logits(model, tokens.inputIds),
      loss,
      ...grad(loss, [model.params.classifier.bias!]),
    ]);
    assertNear(scores, Float64Array.from(expected.flat()), { tolerance: 1e-6, what: "scores" });
    assertNear(value, [lossOf(expected, labels)], { tolerance: 1e-6, what: "the loss" });
    // The gradient of the bias is softmax minus one-hot, summed over rows: its elements add up to 0.
    assert(
      Math.abs(Array.from(slope).reduce((a, b) => a + b, 0)) < 1e-6 &&
        Array.from(slope).some((x) => Math.abs(x) > 1e-3),
    );
  });
}

Deno.test("losses and generate refuse a head for another task", async () => {
  const words = await newModel(gpu, { source: source("words"), seed: 4, families });
  assertThrows(
    () => nextTokenLoss(words),
    InputError,
    'Cannot make a loss of "WordsForSequenceClassification" as its task must be nextToken: it is sequenceClass',
  );
  const message = 'Cannot generate with "WordsForSequenceClassification" as its task must be nextToken';
  await Array.fromAsync(generate(gpu, words, { prompt: [1], maxTokens: 1 })).then(
    () => assert(false, "it must refuse"),
    (error) => assert((error as Error).message.startsWith(message), error.message),
  );
});

Deno.test("loadModel gives back a family of one's own, under the names that it declares for files", async () => {
  const parent = await Deno.makeTempDir(), folder = `${parent}/model`;
  try {
    const saved = await images();
    await saveModel(gpu, saved, { folder });
    {
      await using file = await openSafetensors(`${folder}/model.safetensors`);
      assertEquals(file.names.toSorted(), [
        "classifier.bias",
        "classifier.weight",
        "embeddings.projection.bias",
        "embeddings.projection.weight",
      ]);
    }
    const loaded = await loadModel<ImageParams, ImageInput>(gpu, folder, { families });
    assertEquals(loaded.architecture, "PatchesForImageClassification");
    assertEquals(await valuesOf(gpu, loaded.params), await valuesOf(gpu, saved.params));
    assertEquals(await read(gpu, logits(loaded, batch)), await read(gpu, logits(saved, batch)));
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
});

Deno.test("saveAdapter and loadAdapter name pairs as the file of the model does", async () => {
  const parent = await Deno.makeTempDir(), folder = `${parent}/adapter`;
  try {
    const base = await images();
    const half = (path: string, shape: readonly number[]): [string, Tensor] => {
      const values = Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => i / 10);
      return [path, upload(gpu, values, { shape, label: path })];
    };
    const pairs = new Map([
      half("patches.lora_A.weight", [2, PATCH]),
      half("patches.lora_B.weight", [SIZE, 2]),
    ]);
    const params = unflatten(new Map([...flatten(base.params), ...pairs])) as object as ImageParams;
    const adapted = { ...base, params, loraScale: 2 };
    await saveAdapter(gpu, adapted, { folder });
    {
      await using file = await openSafetensors(`${folder}/adapter_model.safetensors`);
      assertEquals(file.names.toSorted(), [
        "base_model.model.embeddings.projection.lora_A.weight",
        "base_model.model.embeddings.projection.lora_B.weight",
      ]);
      const { target_modules, task_type } = JSON.parse(
        await Deno.readTextFile(`${folder}/adapter_config.json`),
      );
      assertEquals([target_modules, task_type], [["projection"], null]);
    }
    const loaded = await loadAdapter(gpu, base, folder);
    assertEquals([...flatten(loaded.params).keys()].filter(loaded.trainable!), [...pairs.keys()]);
    assertEquals(await read(gpu, logits(loaded, batch)), await read(gpu, logits(adapted, batch)));
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
});
