/** Attention whose weights are dropped: fused, by its definition, and in float64. */

import { assertThrows } from "@std/assert";
import { fill, InputError, type Tensor, tensor } from "@firn/train";
import { attention } from "@firn/train/ops";
import { attentionDropValues } from "../../kernels/attention/dropout.ts";
import { dropoutKey } from "../../kernels/random.ts";
import { reference } from "../kernels/attention_reference.ts";
import { checkOps } from "../reference/check_ops.ts";

const [batch, time, heads, kvHeads, dim] = [2, 6, 4, 2, 4], rate = 0.4, seed = 3, stream = 9;
const size = { batch, time, heads, kvHeads, dim, scale: 0.5, causal: true };
// A second document begins at key 2 of the first row and at key 3 of the other.
const segments = Int32Array.of(0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1);

checkOps([false, true].map((packed) => ({
  name: `attention with dropout${packed ? " and documents" : ""}`,
  inputs: [
    { shape: [batch, time, heads, dim] },
    { shape: [batch, time, kvHeads, dim] },
    { shape: [batch, time, kvHeads, dim] },
  ],
  op: (q: Tensor, k: Tensor, v: Tensor) =>
    attention(q, {
      k,
      v,
      scale: size.scale,
      dropout: { rate, seed, stream },
      ...packed && { segments: tensor(segments, [batch, time]) },
    }),
  reference: (q, k, v) => {
    const drops = attentionDropValues({
      ...size,
      keys: time,
      rate,
      key: dropoutKey([seed, stream]),
      step: 1,
    });
    const given = { q: q.data, k: k.data, v: v.data, dOut: q.data, drops };
    const together = (b: number, i: number, j: number): boolean =>
      j <= i && (!packed || segments[b * time + i] === segments[b * time + j]);
    return { shape: q.shape, data: reference(size, given, together).out };
  },
})));

Deno.test("attention refuses a rate that is none, and dropout beside a bias", () => {
  const q = fill(0, [1, 2, 1, 4]), one = { k: q, v: q };
  for (const rate of [-0.1, 1, NaN]) {
    assertThrows(() => attention(q, { ...one, dropout: { rate, seed: 0 } }), InputError, '"rate" must be');
  }
  assertThrows(
    () => attention(q, { ...one, dropout: { rate: 0.1, seed: -1 } }),
    InputError,
    '"seed" must be',
  );
  const bias = fill(0, [1, 1, 2, 2]);
  assertThrows(
    () => attention(q, { ...one, bias, dropout: { rate: 0.1, seed: 0 } }),
    InputError,
    'no "bias"',
  );
});
