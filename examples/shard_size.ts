/**
 * The flag of how large the files of a model may be.
 *
 * @module
 */

import { InputError } from "@firn/train";
import type { Flag } from "./flags.ts";

const UNITS: Readonly<Record<string, number>> = { "": 1, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 };

/** Most bytes of a file of weights, as `max_shard_size` of transformers. */
export const MAX_SHARD_SIZE: Flag<number | null> = {
  placeholder: "SIZE",
  about:
    "most bytes of a file of weights, such as 5GB or 500MB; a larger model becomes several files with an index",
  fallback: null,
  read(value) {
    const [, number, unit = ""] = /^(\d+(?:\.\d+)?)(KB|MB|GB|TB)?$/i.exec(value.trim()) ?? [];
    const bytes = Number(number) * UNITS[unit.toUpperCase()];
    if (!(bytes >= 1 && bytes < Infinity)) {
      throw new InputError("a number of bytes, or of KB, MB, GB or TB, such as 5GB");
    }
    return bytes;
  },
};

/** The option of `saveModel` that the flag stands for. */
export function shardOptions(bytes: number | null): { readonly maxShardBytes?: number } {
  return bytes === null ? {} : { maxShardBytes: bytes };
}
