/**
 * Rotary frequencies against an independent float64 copy of the formulas of `transformers`.
 *
 * @module
 */

import { assert, assertEquals, assertNotStrictEquals, assertStrictEquals } from "@std/assert";
import { openGpu, read, type Tensor, type TokenInput, unflatten } from "@firn/train";
import { describeModel, families, hiddenStates, type LlamaConfig, modelParams } from "@firn/train/models";
import { type RopeConfig, ropeFrequencies, ropeTables } from "@firn/train/nn";
import { topological } from "../../core/graph.ts";
import { leaf } from "../../core/sources.ts";

const gpu = await openGpu();
Deno.test.afterAll(async () => await gpu[Symbol.asyncDispose]());

/** The values of Llama 3.1, with a shorter original length to suit a head of 16 elements. */
const LLAMA3 = {
  rope_type: "llama3",
  rope_theta: 5e5,
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 64,
};

/** `_compute_llama3_parameters` of transformers, branch by branch. */
function llama3Frequencies(dim: number, rope: typeof LLAMA3): number[] {
  const old = rope.original_max_position_embeddings;
  const low = old / rope.low_freq_factor, high = old / rope.high_freq_factor;
  const found: number[] = [];
  for (let i = 0; i < dim; i += 2) {
    const frequency = 1 / Math.pow(rope.rope_theta, i / dim);
    const wavelength = 2 * Math.PI / frequency;
    if (wavelength < high) found.push(frequency);
    else if (wavelength > low) found.push(frequency / rope.factor);
    else {
      const smooth = (old / wavelength - rope.low_freq_factor) /
        (rope.high_freq_factor - rope.low_freq_factor);
      found.push((1 - smooth) * frequency / rope.factor + smooth * frequency);
    }
  }
  return found;
}

function near(seen: ArrayLike<number>, expected: readonly number[], tolerance: number): void {
  assertEquals(seen.length, expected.length);
  expected.forEach((value, i) =>
    assert(Math.abs(seen[i] - value) <= tolerance * Math.abs(value), `${i}: ${seen[i]}`)
  );
}

Deno.test("ropeFrequencies is a geometric series from 1 where nothing scales it", () => {
  near(ropeFrequencies({ theta: 10000, dim: 8 }), [1, 0.1, 0.01, 0.001], 1e-15);
});

Deno.test("ropeFrequencies scales as Llama 3 does: high ones stay, low ones are divided, between lies a line", () => {
  const config: RopeConfig = {
    theta: 5e5,
    dim: 16,
    scaling: { type: "llama3", factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalLength: 64 },
  };
  const expected = llama3Frequencies(16, LLAMA3), plain = ropeFrequencies({ theta: 5e5, dim: 16 });
  // The table reaches each of the three branches.
  const shares = expected.map((f, i) => f / plain[i]);
  assert(
    shares.some((s) => s === 1) && shares.some((s) => s === 1 / 8) && shares.some((s) => s > 1 / 8 && s < 1),
  );
  near(ropeFrequencies(config), expected, 1e-14);
});

/** `_compute_yarn_parameters` of transformers, line by line. */
function yarnFrequencies(
  { dim, base, factor, original }: Readonly<Record<"dim" | "base" | "factor" | "original", number>>,
): number[] {
  const correction = (rotations: number): number =>
    (dim * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(base));
  const low = Math.max(Math.floor(correction(32)), 0), high = Math.min(Math.ceil(correction(1)), dim - 1);
  return Array.from({ length: dim / 2 }, (_, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / (high - low)));
    const extrapolation = 1 / base ** (2 * i / dim), interpolation = 1 / (factor * base ** (2 * i / dim));
    return interpolation * ramp + extrapolation * (1 - ramp);
  });
}

Deno.test("ropeFrequencies scales as YaRN does: a ramp between stretched and plain frequencies", () => {
  const scaling = {
    type: "yarn",
    factor: 4,
    betaFast: 32,
    betaSlow: 1,
    truncate: true,
    attentionFactor: 1.2,
    originalLength: 2048,
  } as const;
  const expected = yarnFrequencies({ dim: 16, base: 1e4, factor: 4, original: 2048 });
  const shares = expected.map((f, i) => f * 1e4 ** (2 * i / 16));
  assert(
    shares.some((s) => s === 1) && shares.some((s) => s > 0.26 && s < 0.99) && shares.some((s) => s < 0.26),
  );
  near(ropeFrequencies({ theta: 1e4, dim: 16, scaling }), expected, 1e-14);
});

Deno.test("ropeFrequencies divides all of them where the scaling is linear", () => {
  const scaling = { type: "linear", factor: 2.5 } as const;
  near(ropeFrequencies({ theta: 1e4, dim: 8, scaling }), [0.4, 0.04, 0.004, 0.0004], 1e-14);
});

Deno.test("ropeFrequencies raises the base with the length where the scaling is dynamic", () => {
  const config: RopeConfig = {
    theta: 1e4,
    dim: 8,
    scaling: { type: "dynamic", factor: 2, originalLength: 16 },
  };
  near(ropeFrequencies(config, { length: 16 }), [1, 0.1, 0.01, 0.001], 1e-14);
  const base = 1e4 * ((2 * 40 / 16) - 1) ** (8 / 6);
  near(ropeFrequencies(config, { length: 40 }), [0, 2, 4, 6].map((i) => base ** (-i / 8)), 1e-14);
});

Deno.test("ropeTables of longrope takes the short divisors up to the original length, then the long ones", async () => {
  const config: RopeConfig = {
    theta: 100,
    dim: 4,
    scaling: {
      type: "longrope",
      shortFactor: [1, 2],
      longFactor: [3, 5],
      attentionFactor: 1.5,
      originalLength: 4,
    },
  };
  near(ropeFrequencies(config, { length: 4 }), [1, 0.05], 1e-14);
  near(ropeFrequencies(config, { length: 5 }), [1 / 3, 0.02], 1e-14);
  const cos = await read(gpu, ropeTables(config, { length: 2 }).cos);
  near(cos, [1.5, 1.5, 1.5 * Math.cos(1), 1.5 * Math.cos(0.05)], 1e-7);
});

Deno.test("ropeTables gives one configuration and length the same tensors, and others their own", () => {
  const config = { theta: 100, dim: 4 };
  assertStrictEquals(ropeTables(config, { length: 3 }).cos, ropeTables(config, { length: 3 }).cos);
  assertNotStrictEquals(ropeTables(config, { length: 4 }).cos, ropeTables(config, { length: 3 }).cos);
  assertNotStrictEquals(ropeTables({ ...config }, { length: 3 }).cos, ropeTables(config, { length: 3 }).cos);
});

/** The rotary tables in the graph of the hidden states of a model. */
function tablesOf(source: Readonly<Record<string, unknown>>, length: number): readonly Tensor[] {
  const model = describeModel(source, { families, file: "config.json" });
  const leaves = new Map(
    [...modelParams(model)].map(([path, { shape }]) => [path, leaf(path, { shape, dtype: "f32" })]),
  );
  const input: TokenInput = { inputIds: leaf("ids", { shape: [1, length], dtype: "i32" }) };
  const hidden = hiddenStates({ ...model, params: unflatten(leaves) }, input);
  const { headDim } = model.config as LlamaConfig;
  return topological([hidden]).filter(({ inputs, shape }) =>
    inputs.length === 0 && shape[0] === length && shape[1] === headDim / 2
  );
}

const LENGTH = 40;

/** Families whose rotary positions may be of any kind. */
const ROTARY = [
  "llama",
  "mistral",
  "qwen2",
  "qwen3",
  "gemma",
  "gemma2",
  "gemma3_text",
  "smollm3",
  "olmo2",
  "granite",
];

for (const model_type of ROTARY) {
  for (const place of ["rope_parameters", "rope_scaling"] as const) {
    const layered = model_type === "gemma3_text";
    Deno.test(`hiddenStates of ${model_type} turns by the angles of Llama 3 that ${place} asks for`, async () => {
      const { rope_theta, ...scaling } = LLAMA3;
      const source = {
        model_type,
        hidden_size: 64,
        intermediate_size: 8,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        vocab_size: 8,
        ...(place === "rope_scaling"
          ? { rope_theta, rope_scaling: scaling }
          : { rope_parameters: layered ? { full_attention: LLAMA3 } : LLAMA3 }),
        // Layers of one kind, so that all have the same tables.
        ...layered && { layer_types: ["full_attention", "full_attention"] },
      };
      const tables = tablesOf(source, LENGTH);
      assertEquals(tables.length, 2, "one cosine and one sine for all layers");
      const angles = Array.from({ length: LENGTH }, (_, t) => llama3Frequencies(16, LLAMA3).map((f) => t * f))
        .flat();
      const seen = await Promise.all(tables.map((one) => read(gpu, one)));
      const [cos, sin] = seen[0][0] === 1 ? seen : [seen[1], seen[0]];
      // Stored as f32: 6e-8 of values of at most 1.
      const apart = (values: ArrayLike<number>, of: (angle: number) => number): number =>
        Math.max(...angles.map((angle, i) => Math.abs(values[i] - of(angle))));
      assert(apart(cos, Math.cos) < 1e-7 && apart(sin, Math.sin) < 1e-7, `${apart(cos, Math.cos)}`);
    });
  }
}
