/**
 * Models of the study that are trained from nothing: a ViT on digits, a Llama of 11 M parameters, a SmolVLM asked about digits.
 *
 * Axes: B batch, T time.
 *
 * @module
 */

import { tensor, type TokenBatch } from "@firn/train";
import type { ImageBatch } from "@firn/train/models";
import { IGNORE } from "@firn/train/ops";
import { ARMS, type StudyPlan, type StudyTask } from "./study_plan.ts";

/** The digit, and its grey values from 0 to 255. */
type DigitRow = readonly number[];

/** Pixels on a side of a digit. */
export const SIDE = 28;
const PATCH = 7;
/** Places of an image in a text: squares of 2 by 2 patches are joined. */
const STATES = (SIDE / PATCH / 2) ** 2;
/** A question has one token: which digit, or whether it is even. */
const QUESTIONS = 2;
const IMAGE = 0, ASKED = 1, DIGITS = ASKED + QUESTIONS, YES = DIGITS + 10, NO = YES + 1;
/** Tokens of an image, a question and its answer. */
const LENGTH = STATES + 2;

const ENCODER = { hidden_size: 128, intermediate_size: 256, num_hidden_layers: 6, num_attention_heads: 4 };
const IMAGES = { image_size: SIDE, patch_size: PATCH, num_channels: 1 };

/** The `config.json` of each model. Narrow models learn little from matrices as small as those of large ones. */
export const SCRATCH_MODELS: Readonly<Record<"vit" | "llama" | "smolvlm", Record<string, unknown>>> = {
  vit: {
    ...ENCODER,
    ...IMAGES,
    model_type: "vit",
    architectures: ["ViTForImageClassification"],
    initializer_range: 0.06,
    id2label: Object.fromEntries(Array.from({ length: 10 }, (_, digit) => [digit, `${digit}`])),
  },
  // 10.96 million parameters.
  llama: {
    model_type: "llama",
    architectures: ["LlamaForCausalLM"],
    hidden_size: 288,
    intermediate_size: 816,
    num_hidden_layers: 10,
    num_attention_heads: 6,
    vocab_size: 2048,
    max_position_embeddings: 256,
    tie_word_embeddings: true,
  },
  smolvlm: {
    model_type: "smolvlm",
    architectures: ["SmolVLMForConditionalGeneration"],
    image_token_id: IMAGE,
    scale_factor: 2,
    tie_word_embeddings: true,
    initializer_range: 0.06,
    vision_config: { ...ENCODER, ...IMAGES },
    text_config: { ...ENCODER, model_type: "llama", vocab_size: NO + 1, max_position_embeddings: 32 },
  },
};

const RATES = [5e-4, 1.5e-3, 4.5e-3] as const;
const DIGIT_ROWS = {
  data: "digits",
  rank: null,
  batch: 64,
  length: LENGTH,
  rows: 3200,
  rates: RATES,
} as const;

/** Tasks that begin with random weights. */
export const SCRATCH_TASKS: readonly StudyTask[] = [
  { name: "digits-vit", model: "vit", ...DIGIT_ROWS },
  {
    name: "sotu-llama",
    model: "llama",
    data: "addresses",
    rank: null,
    batch: 16,
    length: 256,
    rows: 2400,
    rates: RATES,
  },
  { name: "digits-smolvlm", model: "smolvlm", ...DIGIT_ROWS },
];

/** What is trained from nothing: more steps, fewer seeds, and one rate for all arms. */
export const SCRATCH: StudyPlan = {
  tasks: SCRATCH_TASKS,
  arms: ARMS,
  steps: 300,
  look: 15,
  judge: 75,
  tuningSeed: 100,
  finalSeeds: [1, 2, 3],
  untuned: true,
};

/** Grey values of rows: over all of MNIST their mean is 0 and their deviation 1. */
function pixelsOf(rows: readonly DigitRow[], batch: number): Float32Array<ArrayBuffer> {
  const pixels = new Float32Array(batch * SIDE * SIDE);
  rows.forEach(([, ...grey], row) => {
    pixels.set(grey.map((value) => (value / 255 - 0.1307) / 0.3081), row * SIDE * SIDE);
  });
  return pixels;
}

/** A batch of digits and what they are; -100 in rows that fill it. */
export function imageBatchOf(rows: readonly DigitRow[], { batch }: { readonly batch: number }): ImageBatch {
  const labels = new Int32Array(batch).fill(IGNORE);
  rows.forEach(([digit], row) => labels[row] = digit);
  const pixelValues = tensor(pixelsOf(rows, batch), [batch, 1, SIDE, SIDE]);
  return { pixelValues, labels: tensor(labels, [batch]) };
}

/** A batch of digits with a question about each, by turns; its answer alone is learned. */
export function questionBatchOf(
  rows: readonly DigitRow[],
  { batch }: { readonly batch: number },
): TokenBatch {
  const ids = new Int32Array(batch * LENGTH).fill(IMAGE),
    labels = new Int32Array(batch * LENGTH).fill(IGNORE);
  for (let row = 0; row < batch; row++) {
    const question = row % QUESTIONS, end = (row + 1) * LENGTH, digit = rows[row]?.[0];
    const answer = digit === undefined || question === 0 ? DIGITS + (digit ?? 0) : digit % 2 === 0 ? YES : NO;
    ids.set([ASKED + question, answer], end - 2);
    if (digit !== undefined) labels[end - 1] = answer;
  }
  const pixelValues = tensor(pixelsOf(rows, batch), [batch, 1, 1, SIDE, SIDE]), shape = [batch, LENGTH];
  return { inputIds: tensor(ids, shape), labels: tensor(labels, shape), pixelValues } as TokenBatch;
}
