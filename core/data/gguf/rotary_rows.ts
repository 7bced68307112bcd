/**
 * The order of rows of queries and keys. Hugging Face has the first halves of all rotary pairs of a head, then the second
 * ones; llama.cpp has the halves of each pair side by side where the architecture is `llama`.
 *
 * Source: `LlamaModel.permute` of `convert_hf_to_gguf.py`.
 *
 * @module
 */

/**
 * Whether the rows of a tensor have another order in a file.
 *
 * @param architecture `general.architecture`
 * @param name A name of Hugging Face
 * @returns Whether they have
 */
export function isInterleaved(architecture: string, name: string): boolean {
  return architecture === "llama" && /\.self_attn\.[qk]_proj\b/.test(name);
}

/** Rows of whole heads. */
export interface Heads {
  /** Rows of a head. */
  readonly headDim: number;
  /** Bytes of a row. */
  readonly rowBytes: number;
}

/**
 * Orders rows as Hugging Face does.
 *
 * @param bytes Whole heads as llama.cpp has them
 * @param heads Their sizes
 * @returns The same rows in another order
 */
export function halvesApart(bytes: Uint8Array, heads: Heads): Uint8Array<ArrayBuffer> {
  return moved(bytes, { ...heads, apart: true });
}

/**
 * Orders rows as llama.cpp does.
 *
 * @param bytes Whole heads as Hugging Face has them
 * @param heads Their sizes
 * @returns The same rows in another order
 */
export function halvesTogether(bytes: Uint8Array, heads: Heads): Uint8Array<ArrayBuffer> {
  return moved(bytes, { ...heads, apart: false });
}

/** Row `half * D / 2 + i` of a head apart is row `2 * i + half` together. */
function moved(
  bytes: Uint8Array,
  { headDim, rowBytes, apart }: Heads & { readonly apart: boolean },
): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(bytes.length), head = headDim * rowBytes;
  for (let first = 0; first < bytes.length; first += head) {
    for (let row = 0; row < headDim; row++) {
      const here = first + row * rowBytes;
      const there = first + (2 * (row % (headDim / 2)) + Math.floor(row / (headDim / 2))) * rowBytes;
      const [source, target] = apart ? [there, here] : [here, there];
      result.set(bytes.subarray(source, source + rowBytes), target);
    }
  }
  return result;
}
