/** Dropout of models: where families drop, at which rates, and that runs with it can be reproduced. */

import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  adamW,
  classLoss,
  defineTraining,
  InputError,
  leaf,
  type LossMode,
  nextTokenLoss,
  type Regularization,
  type Tensor,
  type TokenBatch,
  type TrainingOptions,
  type TrainingState,
  unflatten,
} from "@firn/train";
import { loadCheckpoint, saveCheckpoint } from "@firn/train/checkpoint";
import { newModel } from "@firn/train/hub";
import { memoryFileSystem } from "@firn/train/data";
import { describeModel, families, modelParams } from "@firn/train/models";
import { topological } from "../../core/graph.ts";
import { hostValues } from "../../core/sources.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { bitsOf, tokenBatch } from "../train/tiny.ts";

const DECODER = {
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 3,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 64,
  max_position_embeddings: 16,
  attention_dropout: 0.25,
  // Of mixtures of experts; others do not read them.
  num_experts: 2,
  num_experts_per_tok: 1,
  moe_intermediate_size: 16,
};
const GPT2 = { n_embd: 16, n_head: 2, n_layer: 3, vocab_size: 64, n_positions: 16 };
const BERT = {
  hidden_size: 16,
  intermediate_size: 32,
  num_hidden_layers: 3,
  num_attention_heads: 2,
  vocab_size: 64,
  attention_probs_dropout_prob: 0.25,
};

interface Site {
  readonly rate: number;
  /** Its key, as text: seed and stream. */
  readonly key: string;
}

/** What the loss of a model drops: elements, and weights of attention. */
function sitesOf(
  source: Record<string, unknown>,
  { mode = { training: true }, ...options }: Regularization & { readonly mode?: LossMode } = {},
): { readonly elements: readonly Site[]; readonly weights: readonly Site[] } {
  const description = describeModel(source, { families, file: "config.json" });
  const params = unflatten(
    new Map(
      [...modelParams(description)].map(([path, { shape }]) => [path, leaf(path, { shape, dtype: "f32" })]),
    ),
  );
  const model = { ...description, params }, ids = leaf("ids", { shape: [2, 8], dtype: "i32" });
  const { task } = description.family.heads[description.architecture];
  const labels = task === "sequenceClass" ? leaf("labels", { shape: [2], dtype: "i32" }) : ids;
  const loss = task === "nextToken" ? nextTokenLoss(model, options) : classLoss(model, options);
  const nodes = topological([loss(params, { inputIds: ids, labels }, mode)]);
  const keyOf = (node: Tensor): string => [...hostValues(node, "key")].join(" ");
  const rateOf = ({ attrs }: Tensor): number => (attrs as { readonly rate: number }).rate;
  return {
    elements: nodes.filter(({ op }) => op.name === "dropout").map((node) => ({
      rate: rateOf(node),
      key: keyOf(node.inputs[0]),
    })),
    weights: nodes.flatMap(({ op, attrs, inputs }) => {
      const { dropout: rate } = (attrs ?? {}) as { readonly dropout?: number };
      return op.name === "attention" && rate !== undefined
        ? [{ rate, key: keyOf(inputs.at(-1)!.inputs[0]) }]
        : [];
    }),
  };
}

/** Where `transformers` drops in a model of three layers: weights of attention, and elements at each rate. */
const SITES: readonly {
  readonly source: Record<string, unknown>;
  readonly weights: readonly number[];
  readonly elements: readonly number[];
}[] = [
  ...[
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "olmo2",
    "olmoe",
    "qwen3_moe",
    "granite",
    "smollm3",
  ].map((
    model_type,
  ) => ({
    source: { ...DECODER, model_type, ...model_type === "smollm3" && { no_rope_layers: [1, 1, 1] } },
    weights: Array(3).fill(0.25),
    elements: [],
  })),
  {
    source: { ...DECODER, model_type: "phi3", resid_pdrop: 0.5 },
    weights: Array(3).fill(0.25),
    elements: Array(6).fill(0.5),
  },
  { source: { ...GPT2, model_type: "gpt2" }, weights: Array(3).fill(0.1), elements: Array(7).fill(0.1) },
  {
    source: { ...GPT2, model_type: "gpt2", embd_pdrop: 0.5, attn_pdrop: 0, resid_pdrop: 0 },
    weights: [],
    elements: [0.5],
  },
  {
    source: { ...DECODER, model_type: "gpt_neox", hidden_dropout: 0.5 },
    weights: Array(3).fill(0.25),
    elements: Array(7).fill(0.5),
  },
  {
    source: { ...BERT, model_type: "bert", classifier_dropout: 0.5 },
    weights: Array(3).fill(0.25),
    elements: [...Array(7).fill(0.1), 0.5],
  },
  {
    source: {
      ...BERT,
      model_type: "bert",
      architectures: ["BertForTokenClassification"],
      classifier_dropout: null,
    },
    weights: Array(3).fill(0.25),
    elements: Array(8).fill(0.1),
  },
  {
    source: { ...BERT, model_type: "roberta", max_position_embeddings: 16 },
    weights: Array(3).fill(0.25),
    elements: Array(9).fill(0.1),
  },
  {
    source: { model_type: "distilbert", dim: 16, hidden_dim: 32, n_layers: 3, n_heads: 2, vocab_size: 64 },
    weights: Array(3).fill(0.1),
    elements: [...Array(4).fill(0.1), 0.2],
  },
];

for (const { source, weights, elements } of SITES) {
  const name = [source.model_type, ...(source.architectures as string[] | undefined ?? [])].join(" ");
  Deno.test(`${name} drops where transformers does, in training alone: ${weights.length} and ${elements.length} times`, () => {
    const sites = sitesOf(source);
    assertEquals([sites.weights.map(({ rate }) => rate), sites.elements.map(({ rate }) => rate)], [
      weights,
      elements,
    ]);
    const keys = [...sites.weights, ...sites.elements].map(({ key }) => key);
    assertEquals(new Set(keys).size, keys.length);
    assertEquals(sitesOf(source, { mode: {} }), { weights: [], elements: [] });
    assertEquals(sitesOf(source, { dropout: 0 }), { weights: [], elements: [] });
  });
}

Deno.test("a number takes the place of the rates of config.json, and the seed changes all draws", () => {
  const source = { ...DECODER, model_type: "llama", attention_dropout: 0 };
  assertEquals(sitesOf(source), { weights: [], elements: [] });
  assertEquals(sitesOf(source, { dropout: 0.5 }).weights.map(({ rate }) => rate), [0.5, 0.5, 0.5]);
  const [one, other] = [1, 2].map((seed) => sitesOf({ ...GPT2, model_type: "gpt2" }, { seed }));
  assert(one.elements.every(({ key }, i) => key !== other.elements[i].key));
  assert(one.weights.every(({ key }, i) => key !== other.weights[i].key));
  assertThrows(() => sitesOf(source, { dropout: 1 }), InputError, '"dropout" must be');
});

Deno.test("runs with dropout give the same bits within a limit of memory and after a checkpoint, and parts draw their own", async () => {
  await using gpu = await openTestGpu();
  const source = {
    ...GPT2,
    n_layer: 2,
    model_type: "gpt2",
    attn_pdrop: 0.3,
    resid_pdrop: 0.3,
    embd_pdrop: 0.3,
  };
  const model = await newModel(gpu, { source, seed: 1 }), steps = 3;
  const define = (options: Partial<TrainingOptions<TokenBatch>> = {}, loss: Regularization = {}) =>
    defineTraining<object, TokenBatch>(gpu, nextTokenLoss(model, loss), {
      optimizer: adamW({ learningRate: 0.01 }),
      steps,
      lookEvery: 1,
      ...options,
    });
  const batch = tokenBatch([8, 16]);
  const run = async (training: ReturnType<typeof define>, from?: TrainingState<object>, to = steps) => {
    let state = from ?? await training.init(model.params);
    while (state.step < to) {
      state = await training.next(state, training.accumulate > 1 ? [batch, batch] : batch);
    }
    return state;
  };
  using plain = define();
  const last = await bitsOf(gpu, await run(plain));
  const none = await bitsOf(gpu, await run(define({}, { dropout: 0 })));
  assertNotEquals(last.loss, none.loss);
  assertEquals(await bitsOf(gpu, await run(define())), last);

  const [, least] = /set "memory" to (\d+)/.exec(
    await run(define({ memory: 1 })).then(() => "", (error) => (error as Error).message),
  )!;
  using tight = define({ memory: Number(least) });
  assertEquals(await bitsOf(gpu, await run(tight)), last);
  assert(tight.memory()!.blocks > 0);

  const fileSystem = memoryFileSystem(), path = "c.safetensors";
  await saveCheckpoint(gpu, await run(define(), undefined, 2), { path, fileSystem });
  using later = define();
  const resumed = await later.resume(await loadCheckpoint(path, { fileSystem })) as TrainingState<object>;
  assertEquals(await bitsOf(gpu, await run(later, resumed)), last);

  // The first part of the first step draws the numbers of the first step; the second part, others.
  using parts = define({ accumulate: 2 });
  const first = await run(plain, undefined, 1), both = await run(parts, undefined, 1);
  assertNotEquals((await bitsOf(gpu, both)).loss, (await bitsOf(gpu, first)).loss);
});
