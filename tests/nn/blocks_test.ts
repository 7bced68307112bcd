import { assertEquals, assertThrows } from "@std/assert";
import { InputError, leaf, sum, type Tensor, tensor } from "@firn/train";
import {
  gatedMlp,
  layerNorm,
  linear,
  mlp,
  rmsNorm,
  selfAttention,
  type SelfAttentionOptions,
} from "@firn/train/nn";
import { findComponents } from "../../core/train/freeze/components.ts";
import { checkOps, type Input, type OpCase } from "../reference/check_ops.ts";
import * as reference from "../reference/ops.ts";
import { at, build, type Values } from "../reference/values.ts";

const EPS = 1e-5;

/** `x W^T`, in float64. */
function product(x: Values, weight: Values): Values {
  const width = x.shape.at(-1)!, rows = reference.reshape(x, [x.data.length / width, width]);
  const y = reference.matmul(rows, weight, { transposeB: true });
  return reference.reshape(y, [...x.shape.slice(0, -1), weight.shape[0]]);
}

function normalised(x: Values, gain: Values, bias?: Values): Values {
  return build(x.shape, (place) => {
    const row = Array.from({ length: x.shape.at(-1)! }, (_, c) => at(x, [...place.slice(0, -1), c]));
    const mean = reference.total(row) / row.length;
    const variance = reference.total(row.map((v) => (v - mean) ** 2)) / row.length;
    const c = place.at(-1)!;
    return (at(x, place) - mean) / Math.sqrt(variance + EPS) * gain.data[c] + (bias?.data[c] ?? 0);
  });
}

const silu = (x: number): number => x / (1 + Math.exp(-x));
const geluTanh = (x: number): number =>
  0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

/** B, T, C, H, G, D. */
const [B, T, C, H, G, D] = [2, 7, 6, 4, 2, 4];
const X: Input = { shape: [B, T, C] };
const matrix = (out: number, width: number): Input => ({ shape: [out, width] });
const gain = (size: number): Input => ({ shape: [size], low: 0.5, high: 1.5 });
const angle = ([t, i]: readonly number[]): number => t / 10 ** i;
const cos = build([T, D / 2], (place) => Math.fround(Math.cos(angle(place))));
const sin = build([T, D / 2], (place) => Math.fround(Math.sin(angle(place))));
const table = (x: Values): Tensor => tensor(Float32Array.from(x.data), x.shape);
const rope = { cos: table(cos), sin: table(sin) };

interface AttentionCase extends Partial<SelfAttentionOptions> {
  readonly label: string;
  readonly qkNorm?: boolean;
}

function attentionCase({ label, qkNorm = false, ...options }: AttentionCase): OpCase {
  const norms = qkNorm ? [gain(D), gain(D)] : [];
  return {
    name: `selfAttention ${label}`,
    inputs: [X, matrix(H * D, C), matrix(G * D, C), matrix(G * D, C), matrix(C, H * D), ...norms],
    op: (x, q, k, v, o, qNorm, kNorm) =>
      selfAttention(x, {
        q_proj: { weight: q },
        k_proj: { weight: k },
        v_proj: { weight: v },
        o_proj: { weight: o },
        ...(qkNorm ? { q_norm: { weight: qNorm }, k_norm: { weight: kNorm } } : {}),
      }, { heads: H, kvHeads: G, headDim: D, eps: EPS, ...options }),
    reference(x, q, k, v, o, qNorm, kNorm) {
      const heads = (weight: Values, count: number): Values =>
        reference.reshape(product(x, weight), [B, T, count, D]);
      const place = (y: Values, norm: Values): Values => {
        const scaled = qkNorm ? reference.rmsNorm(y, norm, EPS) : y;
        return options.rope === undefined ? scaled : reference.rotary(scaled, cos, sin);
      };
      const mixed = reference.attention(
        [place(heads(q, H), qNorm), place(heads(k, G), kNorm), heads(v, G)],
        options,
      );
      return product(reference.reshape(mixed, [B, T, H * D]), o);
    },
  };
}

checkOps([
  {
    name: "linear with bias and a LoRA pair",
    inputs: [X, matrix(5, C), { shape: [5] }, matrix(2, C), matrix(5, 2)],
    op: (x, weight, bias, a, b) =>
      linear(x, { weight, bias, lora_A: { weight: a }, lora_B: { weight: b } }, { loraScale: 0.5 }),
    reference: (x, weight, bias, a, b) =>
      reference.map((y, low, c) => y + 0.5 * low + c, product(x, weight), product(product(x, a), b), bias),
  },
  {
    name: "layerNorm",
    inputs: [X, gain(C), { shape: [C] }],
    op: (x, weight, bias) => layerNorm(x, { weight, bias }, { eps: EPS }),
    reference: normalised,
  },
  {
    name: "mlp with gelu",
    inputs: [X, matrix(9, C), { shape: [9] }, matrix(C, 9)],
    op: (x, up, bias, down) => mlp(x, { up_proj: { weight: up, bias }, down_proj: { weight: down } }),
    reference: (x, up, bias, down) =>
      product(reference.map((y, b) => geluTanh(y + b), product(x, up), bias), down),
  },
  {
    name: "gatedMlp with silu",
    inputs: [X, matrix(9, C), matrix(9, C), matrix(C, 9)],
    op: (x, gate, up, down) =>
      gatedMlp(x, { gate_proj: { weight: gate }, up_proj: { weight: up }, down_proj: { weight: down } }),
    reference: (x, gate, up, down) =>
      product(reference.map((g, u) => silu(g) * u, product(x, gate), product(x, up)), down),
  },
  attentionCase({ label: "without positions that is not causal", causal: false }),
  attentionCase({ label: "with rotary positions and norms of queries and keys", rope, qkNorm: true }),
  attentionCase({ label: "with rotary positions and a window of 3", rope, window: 3 }),
]);

Deno.test("selfAttention refuses heads that do not fit the projections", () => {
  const x = tensor(new Float32Array(B * T * C), [B, T, C]);
  const weight = (out: number, width: number) => ({
    weight: tensor(new Float32Array(out * width), [out, width]),
  });
  const params = {
    q_proj: weight(H * D, C),
    k_proj: weight(G * D, C),
    v_proj: weight(G * D, C),
    o_proj: weight(C, H * D),
  };
  assertThrows(
    () => selfAttention(x, params, { heads: H + 1, kvHeads: G, headDim: D }),
    InputError,
    "reshape",
  );
});

Deno.test("policies see layerNorm and rmsNorm as norms", () => {
  const x = leaf("x", { shape: [2, C], dtype: "f32" });
  const names = ["weight", "bias"].map((name) => `norm.${name}`);
  const [weight, bias] = names.map((path) => leaf(path, { shape: [C], dtype: "f32" }));
  const kinds = (y: Tensor, leaves: readonly [string, Tensor][]): (string | number)[][] =>
    findComponents(sum(y), { leaves: new Map(leaves), trainable: () => true }).map((
      { path, kind, size },
    ) => [path, kind, size]);
  const both = kinds(layerNorm(x, { weight, bias }, { eps: EPS }), [[names[0], weight], [names[1], bias]]);
  assertEquals(both, [["norm", "norm", 2 * C]]);
  assertEquals(kinds(rmsNorm(x, { weight }, { eps: EPS }), [[names[0], weight]]), [["norm", "norm", C]]);
});
