/**
 * The network of `one_layer.ts` in jax-js: the same weights, batches and optimizer.
 *
 * Axes: B batch, T time, D width, H heads, V vocabulary.
 *
 * @module
 */

// Named in full, so that deno.json need not carry what only the benchmark uses.
// deno-lint-ignore no-import-prefix
import * as jax from "npm:@jax-js/jax@0.1.25";
import { InputError } from "@firn/train";
import type { Contender } from "./measure.ts";
import { JAX_LAYER } from "./sides.ts";
import {
  batchOf,
  LEARNING_RATE,
  type OneLayerSize,
  startWeights,
  VOCABULARY,
  type Weights,
} from "./one_layer.ts";

const { nn, numpy: np, tree } = jax;
type Array = jax.Array;
type Params = Record<string, Array>;

/** Starts its training on WebGPU, or in WebAssembly with a thread for each core. */
export async function jaxJs(size: OneLayerSize, device: "webgpu" | "wasm"): Promise<Contender> {
  const devices = await jax.init(device);
  if (!devices.includes(device)) {
    throw new InputError(`Cannot run jax-js as it finds no ${device}: it finds ${devices.join(", ")}`);
  }
  jax.defaultDevice(device);
  const { width, time, batch } = size;
  const heads = Math.max(1, width / 32);

  function rmsNorm(x: Array, gain: Array): Array {
    const meanSquare = np.square(x.ref).mean(-1, { keepdims: true });
    return x.div(np.sqrt(meanSquare.add(1e-5))).mul(gain);
  }

  function loss(p: Params, x: Array, y: Array): Array {
    // Not np.take: the shader of its gradient, a scatter, is refused here.
    let h = np.matmul(nn.oneHot(x, VOCABULARY), p.wte.ref).add(p.wpe); // [B, T, D]
    const qkv = np.matmul(rmsNorm(h.ref, p.g1), p.wqkv).reshape([batch, time, 3, heads, width / heads]);
    const [q, k, v] = np.split(qkv, 3, 2).map((part) => part.reshape([batch, time, heads, width / heads]));
    const attended = nn.dotProductAttention(q, k, v, { isCausal: true }).reshape([batch, time, width]);
    h = h.add(np.matmul(attended, p.wo));
    h = h.add(np.matmul(nn.gelu(np.matmul(rmsNorm(h.ref, p.g2), p.w1)), p.w2));
    const logits = np.matmul(rmsNorm(h, p.gf), np.transpose(p.wte)); // [B, T, V]
    return nn.logSoftmax(logits, -1).mul(nn.oneHot(y, VOCABULARY)).sum().mul(-1 / (batch * time));
  }

  const update = jax.jit((p: Params, m: Params, v: Params, step: Array, x: Array, y: Array) => {
    const [value, grads] = jax.valueAndGrad(loss)(tree.ref(p), x, y);
    const params: Params = {}, first: Params = {}, second: Params = {};
    const firstShare = np.subtract(1, np.power(0.9, step.ref)),
      secondShare = np.subtract(1, np.power(0.999, step));
    for (const name of Object.keys(p)) {
      const g: Array = grads[name];
      first[name] = m[name].mul(0.9).add(g.ref.mul(0.1));
      second[name] = v[name].mul(0.999).add(np.square(g).mul(0.001));
      const root = np.sqrt(second[name].ref.div(secondShare.ref)).add(1e-8);
      params[name] = p[name].sub(first[name].ref.div(firstShare.ref).div(root).mul(LEARNING_RATE));
    }
    tree.dispose([firstShare, secondShare]);
    return { value, params, first, second };
  });

  const weights = Object.entries(startWeights(size));
  const each = (make: (weights: Weights) => Array): Params =>
    Object.fromEntries(weights.map(([name, weights]) => [name, make(weights)]));
  let params = each(({ data, shape }) => np.array(data, { shape: [...shape] }));
  let first = each(({ shape }) => np.zeros([...shape])), second = each(({ shape }) => np.zeros([...shape]));
  let value: Array | null = null, step = 0;
  const ids = (data: Int32Array<ArrayBuffer>): Array =>
    np.array(data, { shape: [batch, time], dtype: np.int32 });
  return {
    name: `jax-js ${device}`,
    side: JAX_LAYER,
    step() {
      jax.defaultDevice(device);
      value?.dispose();
      const { x, y } = batchOf(size, ++step);
      ({ value, params, first, second } = update(
        params,
        first,
        second,
        np.array(step, { dtype: np.float32 }),
        ids(x),
        ids(y),
      ));
    },
    async settle() {
      await jax.blockUntilReady(params);
    },
    loss: () => value!.ref.jsAsync(),
    memory: () => null,
    close: () => tree.dispose([params, first, second, value]),
  };
}
