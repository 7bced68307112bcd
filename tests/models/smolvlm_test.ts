/** Text with images: which token takes which state of which image, and what is refused. */

import { assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import {
  evaluate,
  flatten,
  InputError,
  logits,
  type Model,
  nextTokenLoss,
  read,
  readAll,
  ShapeError,
  type Tensor,
  tensor,
  unflatten,
} from "@firn/train";
import { defineGeneration, placeImages } from "@firn/train/infer";
import { describeModel, families, hiddenStates, type ImageTextInput } from "@firn/train/models";
import { newModel } from "@firn/train/hub";
import { topological } from "../../core/graph.ts";
import { openTestGpu } from "../reference/open_gpu.ts";
import { assertNear } from "../reference/values.ts";

const gpu = await openTestGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

const TEXT = {
  hidden_size: 8,
  intermediate_size: 10,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 12,
  max_position_embeddings: 16,
};
/** 6 x 6 patches, of which squares of 3 x 3 are joined: four states an image. */
const SOURCE = {
  model_type: "smolvlm",
  image_token_id: 11,
  scale_factor: 3,
  initializer_range: 0.4,
  vision_config: {
    hidden_size: 6,
    intermediate_size: 7,
    num_hidden_layers: 1,
    num_attention_heads: 3,
    image_size: 12,
    patch_size: 2,
    num_channels: 1,
  },
  text_config: TEXT,
};
const IMAGE = 11, PIXELS = 144;

const ids = (rows: readonly number[][]): Tensor =>
  tensor(Int32Array.from(rows.flat()), [rows.length, rows[0].length]);
const drawn = (image: number): number[] =>
  Array.from({ length: PIXELS }, (_, i) => Math.sin(1 + image * 7 + i));
const blank: number[] = Array(PIXELS).fill(0);
/** Images of each sequence: f32 [B, I, 1, 12, 12]. */
const images = (rows: readonly (readonly number[][])[]): Tensor =>
  tensor(Float32Array.from(rows.flat(2)), [rows.length, rows[0].length, 1, 12, 12]);
const states: number[] = Array(4).fill(IMAGE);

const model: Model<object, ImageTextInput> = await newModel<object, ImageTextInput>(gpu, {
  source: SOURCE,
  seed: 2,
});
const hidden = (input: ImageTextInput): Tensor => hiddenStates(model, input);

Deno.test("the images of a sequence take its image tokens in order, and what fills up a sequence is not read", async () => {
  const two = ids([[3, ...states, 5, ...states, 7]]);
  const one = ids([[3, ...states, 5]]);
  const [both, turned, alone, filled] = await readAll(gpu, [
    hidden({ inputIds: two, pixelValues: images([[drawn(0), drawn(1)]]) }),
    hidden({ inputIds: two, pixelValues: images([[drawn(1), drawn(0)]]) }),
    hidden({ inputIds: one, pixelValues: images([[drawn(0)]]) }),
    hidden({ inputIds: one, pixelValues: images([[drawn(0), blank]]) }),
  ]);
  assertNotEquals(both, turned);
  assertNear(both.subarray(0, 48), [...alone], { tolerance: 1e-6, what: "states up to the second image" });
  assertNear(filled, [...alone], {
    tolerance: 1e-6,
    what: "states beside an image that no token stands for",
  });
});

Deno.test("each sequence of a batch has its own images", async () => {
  const row = [3, ...states, 5], pixels = [[drawn(0)], [drawn(1)]];
  const [batch, ...rows] = await readAll(gpu, [
    hidden({ inputIds: ids([row, row]), pixelValues: images(pixels) }),
    ...pixels.map((own) => hidden({ inputIds: ids([row]), pixelValues: images([own]) })),
  ]);
  assertNear(batch, [...rows[0], ...rows[1]], { tolerance: 1e-6, what: "states" });
});

Deno.test("without images it is the Llama of its text_config", async () => {
  const source = { ...TEXT, model_type: "llama", tie_word_embeddings: false };
  const leaves = [...flatten(model.params)].filter(([path]) => !/vision_model|connector/.test(path));
  const params = unflatten(new Map(leaves.map(([path, leaf]) => [path.replace(".text_model.", "."), leaf])));
  const llama = { ...describeModel(source, { families, file: "config.json" }), params };
  const inputIds = ids([[3, 1, 4, 1, 5]]);
  const [a, b] = await readAll(gpu, [logits(model, { inputIds }), logits(llama, { inputIds })]);
  assertEquals(a, b);
});

Deno.test("image tokens that are no whole images, or too many, are refused by name, and give no number in a training", async () => {
  const message =
    'Cannot run on row 1 of "inputIds" as each image takes 4 tokens 11, at most 4 in all: it has ';
  const good = [3, ...states, 5, 6, 7, 8], pixelValues = images([[drawn(0)], [drawn(1)]]);
  for (const [bad, count] of [[[3, 11, 11, 11, 5, 6, 7, 8, 9], 3], [[...states, ...states, 5], 8]] as const) {
    assertThrows(() => hidden({ inputIds: ids([good, [...bad]]), pixelValues }), InputError, message + count);
  }
  const inputIds = ids([good, [...states, ...states, 5]]);
  const loss = nextTokenLoss<object, ImageTextInput>(model);
  const batches = [{ inputIds, pixelValues, labels: inputIds }];
  const error = await evaluate(gpu, { loss, params: model.params, batches }).catch((error) => error);
  assertEquals(error.name, "NonFiniteError", `${error}`);
});

Deno.test("images of another shape, and configurations that are not supported, are refused by name", () => {
  assertThrows(
    () =>
      hidden({
        inputIds: ids([[3, ...states]]),
        pixelValues: tensor(new Float32Array(PIXELS), [1, 1, 12, 12]),
      }),
    ShapeError,
    '"pixelValues" must be [B, I, channels, height, width]',
  );
  const one = ids([[3, ...states]]),
    blanks = (shape: number[]): Tensor => tensor(new Float32Array(shape.reduce((a, b) => a * b)), shape);
  for (
    const [pixelValues, pixelAttentionMask, message] of [
      [
        blanks([1, 1, 1, 12, 6]),
        undefined,
        "as many patches down as across, a multiple of scale_factor 3: they have 6 x 3",
      ],
      [blanks([1, 1, 1, 8, 8]), undefined, "they have 4 x 4"],
      [blanks([1, 1, 2, 12, 12]), undefined, '"pixelValues" must be [B, 1, at least 2, at least 2]'],
      [
        blanks([1, 1, 1, 12, 12]),
        tensor(new Int32Array(72), [1, 1, 12, 6]),
        '"pixelAttentionMask" must have the shape',
      ],
    ] as const
  ) assertThrows(() => hidden({ inputIds: one, pixelValues, pixelAttentionMask }), ShapeError, message);
  for (
    const [changes, message] of [
      [
        { scale_factor: 4 },
        '"scale_factor" of "config.json" as it must divide the 6 patches on a side of an image: 4',
      ],
      [
        { image_token_id: 12 },
        '"image_token_id" of "config.json" as it must be below text_config.vocab_size 12: 12',
      ],
      [
        { text_config: { ...TEXT, model_type: "qwen2" } },
        '"text_config.model_type" of "config.json" as it must be "llama"',
      ],
      [
        { text_config: { ...TEXT, hidden_size: 0 } },
        '"text_config.hidden_size" of "config.json" as it must be a whole',
      ],
      [
        { vision_config: { ...SOURCE.vision_config, image_size: [12, 8] } },
        "as height and width must be equal: [12,8]",
      ],
      [
        { vision_config: { ...SOURCE.vision_config, attention_dropout: 1 } },
        '"vision_config.attention_dropout" of "config.json" as it must be at least 0 and below 1: 1',
      ],
    ] as const
  ) {
    assertThrows(
      () => describeModel({ ...SOURCE, ...changes }, { families, file: "config.json" }),
      InputError,
      message,
    );
  }
});

Deno.test("weights of attention of both towers are dropped in training, at the rates of their configurations", () => {
  const described = describeModel(
    {
      ...SOURCE,
      text_config: { ...TEXT, attention_dropout: 0.1 },
      vision_config: { ...SOURCE.vision_config, attention_dropout: 0.2 },
    },
    { families, file: "config.json" },
  );
  const loss = nextTokenLoss<object, ImageTextInput>({ ...described, params: model.params });
  const inputIds = ids([[3, ...states, 5, 7]]), pixelValues = images([[drawn(0)]]);
  const batch = { inputIds, labels: inputIds, pixelValues };
  const rates = (mode: { readonly training?: boolean }): unknown[] =>
    topological([loss(model.params, batch, mode)]).flatMap(({ attrs }) =>
      (attrs as { readonly dropout?: number } | null)?.dropout ?? []
    );
  assertEquals(rates({ training: true }), [0.2, 0.1]);
  assertEquals(rates({}), []);
});

Deno.test("placeImages lets text be generated from images: as the scores of all tokens without a cache say", async () => {
  const prompts = [[3, ...states, 5], [...states, 7, ...states, 2, 6]];
  const pixelValues = images([[drawn(0), blank], [drawn(1), drawn(2)]]);
  const placed = await placeImages(gpu, model, { prompts, pixelValues });
  assertEquals(placed.prompts[0], [3, 12, 13, 14, 15, 5]); // 12 ids of the vocabulary, then eight states a prompt
  assertEquals(placed.prompts[1].slice(-4), [26, 27, 2, 6]);
  using generation = defineGeneration(gpu, placed.model, { stop: [], logitBias: { [IMAGE]: -1e9 } });
  const { sequences } = await generation.next(await generation.init(placed.prompts), 3);
  const own = [images([[drawn(0), blank]]), images([[drawn(1), drawn(2)]])];
  for (const [b, prompt] of prompts.entries()) {
    const tokens = [...prompt, ...sequences[b].added];
    const scores = await read(gpu, logits(model, { inputIds: ids([tokens]), pixelValues: own[b] }));
    const best = tokens.map((_, t) => {
      const row = [...scores.subarray(12 * t, 12 * t + IMAGE)];
      return row.indexOf(Math.max(...row));
    });
    assertEquals(sequences[b].added, best.slice(prompt.length - 1, -1));
  }
  const llama = await newModel<object, ImageTextInput>(gpu, {
    source: { ...TEXT, model_type: "llama" },
    seed: 1,
  });
  await assertRejects(() => placeImages(gpu, llama, { prompts, pixelValues }), InputError, "it is none");
  const cases = [[[[3, IMAGE, 5], prompts[1]], "takes 4 tokens 11, at most 8 in all: it has 1"], [
    [prompts[0]],
    "those of 2 prompts, and there are 1",
  ]] as const;
  for (const [wrong, message] of cases) {
    await assertRejects(() => placeImages(gpu, model, { prompts: wrong, pixelValues }), InputError, message);
  }
});
