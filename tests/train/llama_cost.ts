/** What the backward pass of a Llama must launch, derived by hand from which parameters are active. */

/** Sizes of a Llama and of its batch. */
export interface Sizes {
  readonly layers: number;
  readonly batch: number;
  readonly time: number;
  readonly width: number;
  readonly inner: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly dim: number;
  readonly vocab: number;
  readonly tied: boolean;
}

/** Launches and floating-point operations. */
export interface Work {
  /** Of matrix products of the forward pass. */
  readonly forwardFlops: number;
  /** Of matrix products of the backward pass. */
  readonly flops: number;
  /** Of the backward pass and the updates. */
  readonly launches: number;
}

/**
 * Walks the model upwards: a gradient by an activation is needed when anything active lies below it, a gradient by a
 * weight when it is active itself.
 *
 * @param active Whether a component, such as `model.layers.0.mlp.up_proj`, is trained
 * @param sizes The model and its batch
 * @returns What is left to do
 */
export function backwardOf(active: (path: string) => boolean, sizes: Sizes): Work {
  const { layers, batch, time, width, inner, heads, kvHeads, dim, vocab, tied } = sizes;
  const rows = batch * time, pairs = batch * heads * time * (time + 1) / 2;
  let forwardFlops = 0, flops = 0, launches = 0;
  const launch = (needed: boolean, count = 1): void => {
    if (needed) launches += count;
  };
  const products = (needed: boolean, cost: number): void => {
    launch(needed);
    if (needed) flops += cost;
  };
  /** `y = x W^T`: a product for x, one for W and its update. */
  const linear = (path: string, [out, into]: readonly [number, number], below: boolean): boolean => {
    const cost = 2 * rows * out * into;
    forwardFlops += cost;
    products(below, cost);
    products(active(path), cost);
    launch(active(path));
    return below || active(path);
  };
  /**
   * Gain: a column sum and its update. Input: the kernel, which also joins the branches before it; those behind it are
   * joined as the last of them is stored.
   */
  const norm = (path: string, below: boolean): boolean => {
    launch(active(path), 2);
    launch(below);
    return below || active(path);
  };

  let stream = active("model.embed_tokens");
  // Sorting the ids, summing rows, the update.
  launch(stream, 3);
  for (let i = 0; i < layers; i++) {
    const at = `model.layers.${i}`;
    const a = norm(`${at}.input_layernorm`, stream);
    const q = linear(`${at}.self_attn.q_proj`, [heads * dim, width], a);
    const k = linear(`${at}.self_attn.k_proj`, [kvHeads * dim, width], a);
    const v = linear(`${at}.self_attn.v_proj`, [kvHeads * dim, width], a);
    forwardFlops += 4 * dim * pairs;
    // Scores, dP and dQ; for keys scores, dP and dK; for values scores and dV; for both, scores once.
    products(q, 6 * dim * pairs);
    products(k || v, (k && v ? 8 : k ? 6 : 4) * dim * pairs);
    // The query heads of a key head are added up.
    launch(k && heads > kvHeads);
    launch(v && heads > kvHeads);
    // Rotating back, and the row sums of dO * O that dQ and dK need.
    launch(q);
    launch(k);
    launch(q || k);
    stream = linear(`${at}.self_attn.o_proj`, [width, heads * dim], q || k || v) || stream;

    const m = norm(`${at}.post_attention_layernorm`, stream);
    const gate = linear(`${at}.mlp.gate_proj`, [inner, width], m);
    const up = linear(`${at}.mlp.up_proj`, [inner, width], m);
    // The gated unit rides on the product before.
    stream = linear(`${at}.mlp.down_proj`, [width, inner], gate || up) || stream;
  }
  const hidden = norm("model.norm", stream);
  if (tied) {
    // The product for the shared weight; its update is counted with the embedding.
    const cost = 2 * rows * vocab * width;
    forwardFlops += cost;
    products(hidden, cost);
    products(active("model.embed_tokens"), cost);
  } else linear("lm_head", [vocab, width], hidden);
  return { forwardFlops, flops, launches };
}
