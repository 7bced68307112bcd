/**
 * Names of tensors in GGUF files and in the folders of Hugging Face, for decoders built as Llama.
 *
 * Source: `tensor_mapping.py` of the package `gguf`.
 *
 * @module
 */

/** Tensors outside of the blocks. */
const WHOLE: readonly (readonly [gguf: string, name: string])[] = [
  ["token_embd", "model.embed_tokens"],
  ["output_norm", "model.norm"],
  ["output", "lm_head"],
];

/** Parts of a block. */
const BLOCK: readonly (readonly [gguf: string, name: string])[] = [
  ["attn_norm", "input_layernorm"],
  ["attn_q", "self_attn.q_proj"],
  ["attn_k", "self_attn.k_proj"],
  ["attn_v", "self_attn.v_proj"],
  ["attn_output", "self_attn.o_proj"],
  ["attn_q_norm", "self_attn.q_norm"],
  ["attn_k_norm", "self_attn.k_norm"],
  ["ffn_norm", "post_attention_layernorm"],
  ["ffn_gate", "mlp.gate_proj"],
  ["ffn_up", "mlp.up_proj"],
  ["ffn_down", "mlp.down_proj"],
];

const toName = new Map([...WHOLE, ...BLOCK]),
  toGguf = new Map([...toName].map(([gguf, name]) => [name, gguf]));

/** Divisors of rotary frequencies; the configuration has them. */
export const ROPE_FACTORS = "rope_freqs.weight";

/**
 * The name that Hugging Face has for a tensor.
 *
 * @param gguf A name of llama.cpp
 * @returns The name; null where there is none
 */
export function nameOf(gguf: string): string | null {
  const [, block, part, kind] = /^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/.exec(gguf) ?? [];
  const name = toName.get(part);
  if (name === undefined || (block === undefined) !== WHOLE.some(([one]) => one === part)) return null;
  return block === undefined ? `${name}.${kind}` : `model.layers.${block}.${name}.${kind}`;
}

/**
 * The name that llama.cpp has for a tensor.
 *
 * @param name A name of Hugging Face, with or without `.weight` or `.bias`
 * @returns The name; null where there is none
 */
export function ggufNameOf(name: string): string | null {
  const [, whole, kind = ""] = /^(.*?)(\.weight|\.bias)?$/.exec(name)!;
  const [, block, inner] = /^model\.layers\.(\d+)\.(.*)$/.exec(whole) ?? [];
  const part = toGguf.get(inner ?? whole);
  if (part === undefined || (block === undefined) !== WHOLE.some(([one]) => one === part)) return null;
  return block === undefined ? `${part}${kind}` : `blk.${block}.${part}${kind}`;
}
