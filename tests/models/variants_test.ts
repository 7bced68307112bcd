/**
 * Shapes and kinds of every family against `transformers`, in float64 and without a device: scores, loss and gradients of
 * each line of `tests/fixtures/variants.json`, which `variants.py` beside it computes.
 *
 * @module
 */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import {
  cast,
  flatten,
  grad,
  leaf,
  logits,
  multiply,
  reshape,
  type Tensor,
  tensor,
  unflatten,
} from "@firn/train";
import { describeModel, families, modelParams } from "@firn/train/models";
import { type Batch, type ConformModel, lossOf, pathsByName } from "../conformance_inputs.ts";
import { evaluateFused } from "../reference/evaluate_fused.ts";
import { random, type Values } from "../reference/values.ts";

interface Line {
  readonly name: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly batch: Readonly<Record<string, unknown>>;
  readonly floats?: true;
  readonly loss: number;
  /** Sum of products with random numbers, and norm. */
  readonly logits: Probe;
  readonly grads: Readonly<Record<string, Probe>>;
}

type Probe = readonly [product: number, norm: number];

const URL_OF_LINES = new URL("../fixtures/variants.json", import.meta.url);
const LINES: readonly Line[] = Deno.readTextFileSync(URL_OF_LINES).trimEnd().split("\n").map((l) =>
  JSON.parse(l)
);

const KEYS: Readonly<Record<string, string>> = {
  input_ids: "inputIds",
  attention_mask: "attentionMask",
  token_type_ids: "tokenTypeIds",
};

function batchOf({ batch, floats }: Line): Batch {
  return Object.fromEntries(
    Object.entries(batch).map(([key, value]): [string, Tensor] => {
      if (key === "pixel_values") {
        const { data, shape } = random(value as number[], { seed: 7 });
        return ["pixelValues", tensor(Float32Array.from(data), shape)];
      }
      if (key === "pixel_attention_mask") {
        const sizes = value as [number, number][][],
          [high, wide] = (batch.pixel_values as number[]).slice(-2);
        const mask = sizes.flat().flatMap(([h, w]) =>
          Array.from({ length: high * wide }, (_, i) => i < h * wide && i % wide < w ? 1 : 0)
        );
        return [
          "pixelAttentionMask",
          tensor(Int32Array.from(mask), [sizes.length, sizes[0].length, high, wide]),
        ];
      }
      const rows = value as number[] | number[][], numbers = rows.flat(), [row] = rows;
      const shape = [rows.length, ...Array.isArray(row) ? [row.length] : []];
      const real = key === "labels" && floats;
      return [KEYS[key] ?? key, tensor(real ? Float32Array.from(numbers) : Int32Array.from(numbers), shape)];
    }),
  ) as Batch;
}

/** A model whose parameters are leaves, and their values. */
function modelOf(
  { config, grads }: Line,
): { readonly model: ConformModel; readonly values: Map<Tensor, Values> } {
  const described = describeModel<object>(config, { families, file: "config.json" });
  const leaves = new Map(
    [...modelParams(described)].map(([path, { shape }]) => [path, leaf(path, { shape, dtype: "f32" })]),
  );
  const model = { ...described, params: unflatten(leaves) } as ConformModel, pathOf = pathsByName(model);
  const gemma = described.family.name.startsWith("gemma"), values = new Map<Tensor, Values>();
  Object.keys(grads).forEach((name, i) => {
    const at = leaves.get(pathOf(name));
    assert(at !== undefined, `there is no ${name}`);
    const gain = at.shape.length === 1 && /norm|LayerNorm|ln_/.test(name) && name.endsWith("weight") &&
      !gemma;
    const { shape, data } = random(at.shape, { seed: i + 1, low: -0.25, high: 0.25 });
    values.set(at, { shape, data: data.map((x) => (gain ? 1 : 0) + x) });
  });
  assertEquals(values.size, leaves.size, "both have the same parameters");
  return { model, values };
}

/** Up to rounding of the stored numbers, and of norms and softmax, which transformers computes in float32. */
function assertProbe({ shape, data }: Values, [product, norm]: Probe, what: string): void {
  const weights = random(shape, { seed: 1 }).data;
  const seen = data.reduce((sum, x, i) => sum + x * weights[i], 0), length = Math.hypot(...data);
  assertAlmostEquals(seen, product, 3e-6 * norm + 1e-12, what);
  assertAlmostEquals(length, norm, 1e-3 * norm + 1e-12, what);
}

for (const line of LINES) {
  Deno.test(`equal to transformers in float64: ${line.name}`, () => {
    const { model, values } = modelOf(line), batch = batchOf(line);
    const leaves = [...flatten(model.params)], loss = lossOf(model)(model.params, batch);
    const mask = batch.attentionMask, all = logits(model as Parameters<typeof logits>[0], batch as never);
    const scores = mask === undefined || all.shape.length < 3
      ? all
      : multiply(all, reshape(cast(mask), [...mask.shape, 1]));
    const [seen, value, ...grads] = evaluateFused(
      [scores, loss, ...grad(loss, leaves.map(([, t]) => t))],
      values,
    );
    assertProbe(seen, line.logits, "logits");
    assertAlmostEquals(value.data[0], line.loss, 2e-6 * Math.abs(line.loss), "loss");
    const pathOf = pathsByName(model), byPath = new Map(leaves.map(([path], i) => [path, grads[i]]));
    for (const [name, expected] of Object.entries(line.grads)) {
      assertProbe(byPath.get(pathOf(name))!, expected, name);
    }
  });
}
