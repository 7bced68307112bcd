/** Encoders: what is honoured of a configuration, and what padding, types and problem types change. */

import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  classLoss,
  flatten,
  grad,
  InputError,
  logits,
  type Model,
  read,
  readAll,
  ShapeError,
  sum,
  tensor,
} from "@firn/train";
import { describeModel, families, hiddenStates, sentenceEmbeddings } from "@firn/train/models";
import { newModel } from "@firn/train/hub";
import { openTestGpu } from "../reference/open_gpu.ts";
import { assertNear } from "../reference/values.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const SIZES = {
  hidden_size: 6,
  intermediate_size: 10,
  num_hidden_layers: 1,
  num_attention_heads: 3,
  vocab_size: 11,
  max_position_embeddings: 9,
  initializer_range: 0.5,
};
const BERT = { ...SIZES, model_type: "bert", architectures: ["BertForSequenceClassification"] };
const ROBERTA = { ...SIZES, model_type: "roberta", architectures: ["RobertaForSequenceClassification"] };
const DISTIL = {
  model_type: "distilbert",
  architectures: ["DistilBertForSequenceClassification"],
  dim: 6,
  hidden_dim: 10,
  n_layers: 1,
  n_heads: 3,
  vocab_size: 11,
  max_position_embeddings: 9,
  initializer_range: 0.5,
};
const VIT = {
  model_type: "vit",
  hidden_size: 6,
  intermediate_size: 10,
  num_hidden_layers: 1,
  num_attention_heads: 3,
  image_size: [7, 4],
  patch_size: [3, 2],
  num_channels: 2,
};

const ids = (rows: readonly number[][]) =>
  tensor(Int32Array.from(rows.flat()), [rows.length, rows[0].length]);
const scoresOf = async (model: Model, input: Parameters<typeof hiddenStates>[1]): Promise<number[]> => [
  ...await read(gpu, logits(model as Model<object, typeof input>, input)),
];

for (const source of [BERT, DISTIL, ROBERTA]) {
  Deno.test(`padding on the right changes no score, whatever its ids are: ${source.model_type}`, async () => {
    const model = await newModel(gpu, { source, seed: 1 });
    const plain = await scoresOf(model, { inputIds: ids([[5, 7, 3]]) });
    const inputIds = ids([[5, 7, 3, 9, 4]]);
    const padded = await scoresOf(model, { inputIds, attentionMask: ids([[1, 1, 1, 0, 0]]) });
    assertNear(padded, plain, { tolerance: 1e-6, what: "scores" });
    assertNotEquals(await scoresOf(model, { inputIds }), padded);
  });
}

const DECODERS = ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3_text"];
for (const model_type of [...DECODERS, "smollm3", "olmo2", "gpt2", "gpt_neox"]) {
  Deno.test(`a class of a sequence is read off its last token, and left padding is not seen: ${model_type}`, async () => {
    const { hidden_size: n_embd, num_hidden_layers: n_layer, vocab_size } = SIZES;
    const source = {
      ...SIZES,
      model_type,
      head_dim: 2,
      rotary_pct: 1,
      num_key_value_heads: 3,
      n_embd,
      n_layer,
      n_head: 3,
      n_positions: 9,
      num_labels: 4,
      pad_token_id: null,
      architectures: [classHeadOf(model_type)],
    };
    const model = await newModel(gpu, { source, seed: 1 });
    const plain = await scoresOf(model, { inputIds: ids([[5, 7, 3]]) });
    assertEquals([plain.length, vocab_size], [4, 11]);
    const right = { inputIds: ids([[5, 7, 3, 9, 4]]), attentionMask: ids([[1, 1, 1, 0, 0]]) };
    assertNear(await scoresOf(model, right), plain, { tolerance: 1e-6, what: "scores" });
    const attentionMask = ids([[0, 0, 1, 1, 1]]);
    const [a, b] = await Promise.all(
      [[2, 6, 5, 7, 3], [8, 1, 5, 7, 3]].map((row) =>
        scoresOf(model, { inputIds: ids([row]), attentionMask })
      ),
    );
    assertEquals(a, b);
  });
}

const PACKED: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  ...Object.fromEntries(
    [...DECODERS, "smollm3", "olmo2", "granite", "gpt_neox", "gpt2"].map((model_type) => [model_type, {
      ...SIZES,
      model_type,
      head_dim: 2,
      rotary_pct: 1,
      num_key_value_heads: 3,
      n_embd: 6,
      n_layer: 1,
      n_head: 3,
      n_positions: 9,
    }]),
  ),
  smolvlm: {
    model_type: "smolvlm",
    image_token_id: 10,
    initializer_range: 0.5,
    vision_config: { ...SIZES, image_size: 4, patch_size: 2, num_channels: 1 },
    text_config: { ...SIZES, num_key_value_heads: 1 },
  },
  bert: { ...BERT, architectures: ["BertForTokenClassification"], num_labels: 4 },
  distilbert: { ...DISTIL, architectures: ["DistilBertForTokenClassification"], num_labels: 4 },
  roberta: { ...ROBERTA, architectures: ["RobertaForTokenClassification"], num_labels: 4 },
};
for (const [model_type, source] of Object.entries(PACKED)) {
  Deno.test(`documents of a packed row get the scores that each gets alone: ${model_type}`, async () => {
    const model = await newModel(gpu, { source, seed: 1 });
    const alone = [[5, 7, 3], [9, 4]].map((row) => scoresOf(model, { inputIds: ids([row]) }));
    const inputIds = ids([[5, 7, 3, 9, 4]]), segments = ids([[1, 1, 1, 2, 2]]);
    const packed = await scoresOf(model, { inputIds, segments });
    assertNear(packed, (await Promise.all(alone)).flat(), { tolerance: 2e-6, what: "scores" });
    assertNotEquals(await scoresOf(model, { inputIds }), packed);
  });
}

Deno.test("every family of text keeps documents apart, and packed rows get no class or vector each", async () => {
  const text = Object.values(families).filter(({ name }) => name !== "vit");
  assertEquals(text.filter(({ inputs }) => !inputs?.includes("segments")).map(({ name }) => name), []);
  const input = { inputIds: ids([[5, 7, 3]]), segments: ids([[1, 1, 2]]) };
  for (const source of [BERT, { ...PACKED.llama, architectures: ["LlamaForSequenceClassification"] }]) {
    const model = await newModel(gpu, { source, seed: 1 });
    assertThrows(() => logits(model, input), InputError, 'on "segments" as it gives each row one class');
    assertThrows(() => sentenceEmbeddings(model, input), InputError, "each row gets one vector");
  }
});

Deno.test("rotary positions that depend on the length refuse packed rows for which they would change", async () => {
  for (
    const rope_scaling of [{ type: "dynamic", factor: 4 }, {
      type: "longrope",
      short_factor: [1, 1],
      long_factor: [3, 3],
    }]
  ) {
    const original = { max_position_embeddings: 4, original_max_position_embeddings: 4 };
    const source = {
      ...PACKED.phi3,
      ...original,
      head_dim: 4,
      hidden_size: 12,
      rope_scaling,
      ...rope_scaling.type === "longrope" && { max_position_embeddings: 9 },
    };
    const model = await newModel(gpu, {
      source: { ...source, model_type: rope_scaling.type === "dynamic" ? "llama" : "phi3" },
      seed: 1,
    });
    const input = (count: number) => ({
      inputIds: ids([[5, 7, 3, 9, 4].slice(0, count)]),
      segments: ids([[1, 1, 2, 2, 2].slice(0, count)]),
    });
    assertEquals(hiddenStates(model, input(4)).shape, [1, 4, 12]);
    assertEquals(hiddenStates(model, { inputIds: input(5).inputIds }).shape, [1, 5, 12]);
    assertThrows(
      () => hiddenStates(model, input(5)),
      InputError,
      `"${rope_scaling.type}" on packed rows of 5 tokens`,
    );
  }
});

Deno.test("positions of RoBERTa count the tokens of each packed document, padding left out", async () => {
  const model = await newModel(gpu, { source: PACKED.roberta, seed: 1 });
  const alone = await Promise.all(
    [[5, 1, 3], [1, 4]].map((row) => scoresOf(model, { inputIds: ids([row]) })),
  );
  const packed = {
    inputIds: ids([[5, 1, 3, 1, 4], [1, 4, 5, 1, 3]]),
    segments: ids([[1, 1, 1, 2, 2], [2, 2, 1, 1, 1]]),
  };
  const found = await scoresOf(model, packed);
  assertNear(found, [...alone.flat(), ...alone[1], ...alone[0]], { tolerance: 2e-6, what: "scores" });
});

const classHeadOf = (model_type: string): string =>
  Object.keys(families[model_type].heads).find((name) => name.endsWith("ForSequenceClassification"))!;

Deno.test("positions of RoBERTa count tokens, so that padding may stand on either side", async () => {
  const source = { ...ROBERTA, architectures: ["RobertaModel"] };
  const model = await newModel(gpu, { source, seed: 1 });
  const right = sentenceEmbeddings(model, {
    inputIds: ids([[5, 7, 3, 1, 1]]),
    attentionMask: ids([[1, 1, 1, 0, 0]]),
  });
  const left = sentenceEmbeddings(model, {
    inputIds: ids([[1, 1, 5, 7, 3]]),
    attentionMask: ids([[0, 0, 1, 1, 1]]),
  });
  const [a, b] = await readAll(gpu, [right, left]);
  assertNear(a, [...b], { tolerance: 1e-6, what: "vectors" });
  assertEquals(model.maxLength, 7, "two rows of nine are for the padding and what is before it");
});

Deno.test("sentenceEmbeddings is the mean of hidden states of tokens, with length 1 unless told not to", async () => {
  const model = await newModel(gpu, { source: { ...BERT, architectures: ["BertModel"] }, seed: 1 });
  const input = {
    inputIds: ids([[5, 7, 3, 9], [2, 4, 6, 8]]),
    attentionMask: ids([[1, 1, 1, 0], [1, 1, 1, 1]]),
  };
  const [hidden, means, vectors] = await readAll(gpu, [
    hiddenStates(model, input),
    sentenceEmbeddings(model, input, { normalize: false }),
    sentenceEmbeddings(model, input),
  ]);
  const expected = [3, 4].flatMap((count, row) =>
    Array.from({ length: 6 }, (_, c) => {
      const states = Array.from({ length: count }, (_, t) => hidden[(row * 4 + t) * 6 + c]);
      return states.reduce((a, b) => a + b) / count;
    })
  );
  assertNear(means, expected, { tolerance: 1e-6, what: "means" });
  const unit = expected.map((x, i) => x / Math.hypot(...expected.slice(i - i % 6, i - i % 6 + 6)));
  assertNear(vectors, unit, { tolerance: 1e-6, what: "vectors" });
});

Deno.test("types of tokens select rows of their table, 0 when absent", async () => {
  const model = await newModel(gpu, { source: BERT, seed: 1 }), inputIds = ids([[5, 7, 3]]);
  const absent = await scoresOf(model, { inputIds });
  assertEquals(await scoresOf(model, { inputIds, tokenTypeIds: ids([[0, 0, 0]]) }), absent);
  assertNotEquals(await scoresOf(model, { inputIds, tokenTypeIds: ids([[0, 1, 1]]) }), absent);
  const other = await newModel(gpu, { source: DISTIL, seed: 1 });
  assertThrows(
    () => logits(other, { inputIds, tokenTypeIds: inputIds }),
    InputError,
    'Cannot run "distilbert" on "tokenTypeIds" as it must read it: it does not; leave it out',
  );
});

Deno.test("the embedding of the padding is not trained, as in PyTorch", async () => {
  for (const [pad_token_id, trained] of [[3, [5, 7]], [null, [3, 5, 7]]] as const) {
    const model = await newModel(gpu, { source: { ...BERT, pad_token_id }, seed: 1 });
    const table = flatten(model.params).get("bert.embeddings.word_embeddings.weight")!;
    const loss = sum(logits(model, ids([[5, 7, 3]])));
    const slope = await read(gpu, grad(loss, [table])[0]);
    const rows = Array.from({ length: 11 }, (_, id) => id).filter((id) =>
      slope.subarray(6 * id, 6 * id + 6).some((x) => x !== 0)
    );
    assertEquals(rows, [...trained]);
  }
});

Deno.test("a mask of values with padding between tokens is refused, in training too", async () => {
  const model = await newModel(gpu, { source: BERT, seed: 1 });
  const batch = {
    inputIds: ids([[5, 7, 3]]),
    attentionMask: ids([[1, 0, 1]]),
    labels: tensor(new Int32Array([1])),
  };
  assertThrows(() => classLoss(model).count!(batch), InputError, 'Cannot use row 0 of "attentionMask"');
  assertThrows(
    () => logits(model, { inputIds: ids([[5, 7, 3]]), attentionMask: ids([[1, 0, 1]]) }),
    InputError,
    'Cannot use row 0 of "attentionMask" as it must be 1 for tokens and 0 for padding before or after them: [1,0,1]',
  );
});

Deno.test("problem_type and the type of labels choose the loss: squares, several classes a row, one class a row", async () => {
  const target = [0.25, 1, 0, 1, 0, 0.5], batch = { inputIds: ids([[5, 7, 3], [2, 4, 6]]) };
  const of = async (problem_type: string | null, labels: ReturnType<typeof tensor>, num_labels = 3) => {
    const model = await newModel(gpu, { source: { ...BERT, problem_type, num_labels }, seed: 1 });
    const loss = classLoss(model)(model.params, { ...batch, labels });
    const [scores, value] = await readAll(gpu, [logits(model, batch), loss]);
    return { scores: [...scores], value };
  };
  const average = (values: readonly number[]): number => values.reduce((a, b) => a + b) / values.length;
  const squares = (scores: readonly number[]) => average(scores.map((s, i) => (s - target[i]) ** 2));
  const binary = (scores: readonly number[]) =>
    average(scores.map((s, i) => Math.log1p(Math.exp(s)) - s * target[i]));
  const floats = tensor(target, [2, 3]);
  for (
    const [type, loss] of [
      ["regression", squares],
      ["multi_label_classification", binary],
      [null, binary],
    ] as const
  ) {
    const { scores, value } = await of(type, floats);
    assertNear(value, [loss(scores)], { tolerance: 1e-6, what: `the loss of ${type}` });
  }
  const one = await of(null, tensor(target.slice(0, 2)), 1);
  assertNear(one.value, [squares(one.scores)], { tolerance: 1e-6, what: "a regression of one value" });
  const classes = await of("single_label_classification", tensor(new Int32Array([2, 0])));
  const log = (row: readonly number[], label: number) =>
    Math.log(row.reduce((n, s) => n + Math.exp(s), 0)) - row[label];
  const expected = average([log(classes.scores.slice(0, 3), 2), log(classes.scores.slice(3), 0)]);
  assertNear(classes.value, [expected], { tolerance: 1e-6, what: "cross-entropy" });
  const refused = await of("regression", tensor(new Int32Array([2, 0]))).catch((error) => error);
  assertEquals(refused.message, "Cannot make a loss of regression as its labels must be f32: they are i32");
});

Deno.test("ViT takes images and patches that are not square, and refuses images of another size", async () => {
  const model = await newModel<object, { pixelValues: ReturnType<typeof tensor> }>(gpu, {
    source: VIT,
    seed: 1,
  });
  const pixels = (shape: readonly number[]) =>
    tensor(Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(i)), shape);
  // 7 / 3 by 4 / 2 whole patches and the class token; the last row of pixels is in none.
  assertEquals(hiddenStates(model, { pixelValues: pixels([2, 2, 7, 4]) }).shape, [2, 5, 6]);
  const [a, b] = [new Float32Array(56), new Float32Array(56)];
  for (const last of [52, 53, 54, 55, 24, 25, 26, 27]) b[last] = 9;
  const [left, right] = await readAll(
    gpu,
    [a, b].map((x) => logits(model, { pixelValues: tensor(x, [1, 2, 7, 4]) })),
  );
  assertEquals(left, right);
  assertThrows(
    () => hiddenStates(model, { pixelValues: pixels([1, 2, 4, 7]) }),
    ShapeError,
    '"pixelValues" must be [B, 2, 7, 4]',
  );
});

const MODELS = { bert: BERT, roberta: ROBERTA, distilbert: DISTIL, vit: VIT } as const;
for (
  const [name, changes, message] of [
    ["bert", { is_decoder: true }, '"is_decoder" of "config.json" as it must be false: true'],
    ["bert", { position_embedding_type: "relative_key" }, 'as it must be "absolute": "relative_key"'],
    ["bert", { hidden_act: "gelu_quick" }, '"hidden_act" of "config.json" as it must be one of silu, '],
    [
      "bert",
      { num_attention_heads: 4 },
      '"num_attention_heads" of "config.json" as it must divide hidden_size 6: 4',
    ],
    [
      "bert",
      { problem_type: "ranking" },
      '"problem_type" of "config.json" as it must be one of single_label',
    ],
    [
      "bert",
      { id2label: { 0: "a" }, num_labels: 2 },
      "as it must be the number of entries of id2label, 1: 2",
    ],
    ["bert", { id2label: {} }, '"id2label" of "config.json" as it must have an entry: {}'],
    ["bert", { pad_token_id: 11 }, '"pad_token_id" of "config.json" as it must be below vocab_size 11: 11'],
    ["roberta", { pad_token_id: null }, "as positions count from it, so it must be a number: null"],
    ["roberta", { pad_token_id: 8 }, "as it must leave positions of 9: 8"],
    [
      "distilbert",
      { sinusoidal_pos_embds: true },
      '"sinusoidal_pos_embds" of "config.json" as it must be false',
    ],
    ["vit", { patch_size: 5 }, '"patch_size" of "config.json" as it must fit into image_size 7 x 4: [5,5]'],
    ["vit", { image_size: [1, 2, 3] }, "as it must be one or two whole numbers above 0: [1,2,3]"],
  ] as const
) {
  Deno.test(`${name} refuses ${JSON.stringify(changes)} by name`, () => {
    const source = { ...MODELS[name], ...changes };
    const error = assertThrows(() => describeModel(source, { families, file: "config.json" }), InputError);
    assert(error.message.includes(message), error.message);
  });
}
