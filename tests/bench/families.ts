/**
 * A training step of each family at about 10M parameters, beside PyTorch.
 *
 * ```sh
 * deno run --allow-read tests/bench/families.ts --sources [FAMILY...] > sources.json
 * deno run --allow-read tests/bench/families.ts [FAMILY...] > firn.jsonl
 * python3 tests/bench/families_twin.py sources.json > torch.jsonl
 * ```
 *
 * Shapes are those of `tests/fixtures`, made wider. f32, AdamW, one batch of 8 rows of 256 tokens, of 32 images of 64 x 64, or
 * of both: rows that begin with an image. A line of JSON a family: parameters, milliseconds of a step (after {@link WARM_UP} steps), peak memory, the loss after all steps.
 *
 * @module
 */

import {
  adamW,
  classLoss,
  defineTraining,
  flatten,
  type Gpu,
  type LossOn,
  type Model,
  nextTokenLoss,
  scan,
  sizeOf,
  tensor,
  type TensorTree,
} from "@firn/train";
import { newModel } from "@firn/train/hub";
import { describeModel, families, headOf } from "@firn/train/models";
import { readFlags, runMain } from "../../examples/flags.ts";
import { GPU_FLAGS, openDevice } from "../../examples/gpu.ts";
import { partArgs } from "../../examples/prompting.ts";
import { print } from "../../examples/print.ts";

const WARM_UP = 20, STEPS = 60;
const ROWS = 8, LENGTH = 256, IMAGES = 32, VOCABULARY = 8192;

/** Tokens of an image of SmolVLM: 8 x 8 patches, of which 2 x 2 become one. */
const IMAGE_TOKENS = 16;

/** Sizes of every shape, by each name that a family has for it. */
const SIZES: Readonly<Record<string, number>> = {
  hidden_size: 256,
  n_embd: 256,
  dim: 256,
  intermediate_size: 768,
  hidden_dim: 768,
  num_hidden_layers: 8,
  n_layer: 8,
  n_layers: 8,
  num_attention_heads: 8,
  n_head: 8,
  n_heads: 8,
  num_key_value_heads: 4,
  head_dim: 32,
  query_pre_attn_scalar: 32,
  vocab_size: VOCABULARY,
  max_position_embeddings: LENGTH + 2,
  n_positions: LENGTH,
  original_max_position_embeddings: LENGTH + 2,
  sliding_window: 64,
  moe_intermediate_size: 128,
  image_size: 64,
  patch_size: 8,
  pooler_output_size: 256,
};

/** Lists with an entry a layer; the defaults of the family take their place. */
const BY_LAYER = ["layer_types", "no_rope_layers"];

type Source = Readonly<Record<string, unknown>>;

/** The sizes of a configuration, and of those within it: a model of several parts has one for each. */
function scaled(source: Source): Source {
  const entries = Object.entries(source).filter(([key]) => !BY_LAYER.includes(key));
  return Object.fromEntries(entries.map(([key, value]) => {
    if (typeof value === "number") return [key, SIZES[key] ?? value];
    return [key, /_config$/.test(key) ? scaled(value as Source) : value];
  }));
}

async function sources(): Promise<Readonly<Record<string, Source>>> {
  const found: Record<string, Source> = {};
  for (const name of Object.keys(families)) {
    const path = new URL(`../fixtures/${name}/config.json`, import.meta.url);
    try {
      found[name] = scaled(JSON.parse(await Deno.readTextFile(path)));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return found;
}

/** Values of one input, and its shape. */
interface Input {
  readonly values: Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer>;
  readonly shape: readonly number[];
}

/** One batch by the names of transformers, the same in the twin: ids and pixels by a rule instead of random numbers. */
function batchOf(source: Source): Readonly<Record<string, Input>> {
  const pixels = (...shape: number[]): Input => ({
    shape,
    values: Float32Array.from(
      { length: shape.reduce((n, d) => n * d) },
      (_, i) => i * 7919 % 1009 / 504.5 - 1,
    ),
  });
  const classes = (rows: number): Input => ({
    shape: [rows],
    values: Int32Array.from({ length: rows }, (_, i) => i % 3),
  });
  if (source.patch_size !== undefined) {
    return { pixel_values: pixels(IMAGES, 3, 64, 64), labels: classes(IMAGES) };
  }
  const ids = Int32Array.from({ length: ROWS * LENGTH }, (_, i) => 3 + i * 7919 % (VOCABULARY - 3));
  const shape = [ROWS, LENGTH];
  if (source.text_config !== undefined) {
    const image = source.image_token_id as number, labels = ids.map((id) => id === image ? id + 1 : id);
    const seen = labels.map((id, i) => i % LENGTH < IMAGE_TOKENS ? image : id);
    return {
      input_ids: { values: seen, shape },
      pixel_values: pixels(ROWS, 1, 3, 64, 64),
      labels: { values: labels.map((id, i) => i % LENGTH < IMAGE_TOKENS ? -100 : id), shape },
    };
  }
  const decoder = headOf(describeModel(source, { families, file: "config.json" })).task === "nextToken";
  return { input_ids: { values: ids, shape }, labels: decoder ? { values: ids, shape } : classes(ROWS) };
}

async function measure(gpu: Gpu, name: string, source: Source): Promise<void> {
  const model = await newModel(gpu, { source, seed: 1 }) as Model<object, object>;
  const inputs = Object.entries(batchOf(source)).map(([key, { values, shape }]) => [
    key.replace(/_(.)/, (_, letter) => letter.toUpperCase()),
    tensor(values, shape),
  ]);
  const batch: TensorTree = Object.fromEntries(inputs);
  const decoder = headOf(model).task === "nextToken";
  const loss = decoder ? nextTokenLoss(model as never) : classLoss(model as never);
  using training = defineTraining(gpu, loss as LossOn<typeof batch>, {
    optimizer: adamW({ learningRate: 1e-4 }),
    steps: STEPS,
    lookEvery: WARM_UP,
  });
  const parameters = [...flatten(model.params).values()].reduce((n, { shape }) => n + sizeOf(shape), 0);
  let began = 0;
  for await (
    const state of scan(training, await training.init(model.params), Array(STEPS).fill(batch))
  ) {
    if (state.step === WARM_UP) began = performance.now();
    if (state.step < STEPS) continue;
    const ms = (performance.now() - began) / (STEPS - WARM_UP);
    const MiB = Math.round(state.cost!.memory / 2 ** 20);
    const line = { name, parameters, ms, MiB, loss: state.look!.loss.at(-1), launches: state.cost!.launches };
    print(JSON.stringify(line));
  }
}

async function main(): Promise<void> {
  const asked = Deno.args.filter((arg) => arg !== "--sources");
  const { words: names, flags: rest } = partArgs(asked), { values: flags } = readFlags(rest, GPU_FLAGS);
  const all = Object.entries(await sources());
  const chosen = names.length === 0 ? all : all.filter(([name]) => names.includes(name));
  if (asked.length < Deno.args.length) {
    const works = chosen.map(([name, source]) => {
      const inputs = Object.entries(batchOf(source)).map(([key, { values, shape }]) => [
        key,
        { values: [...values], shape },
      ]);
      return [name, { source, inputs: Object.fromEntries(inputs) }];
    });
    return print(JSON.stringify(Object.fromEntries(works)));
  }
  await using gpu = await openDevice(flags, { to: Deno.stderr });
  for (const [name, source] of chosen) await measure(gpu, name, source);
}

if (import.meta.main) await runMain(main, "families");
