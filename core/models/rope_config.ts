/**
 * Rotary positions as `config.json` describes them.
 *
 * @module
 */

import type { Llama3Scaling, RopeConfig } from "../nn/rope.ts";
import type { ConfigReader } from "./config_reader.ts";

/** The keys of the supported kinds; any other could change the angles, so it is refused. */
const KEYS = [
  "rope_type",
  "type",
  "rope_theta",
  "factor",
  "low_freq_factor",
  "high_freq_factor",
  "original_max_position_embeddings",
  "partial_rotary_factor",
];

/**
 * Reads the base and the scaling of rotary positions, where either version of `transformers` writes them:
 * `rope_parameters`, or `rope_theta` with `rope_scaling`. Where both stand, `rope_scaling` counts, as in transformers 5.
 *
 * @param read The configuration
 * @param options `dim`: elements of a head; `maxLength`: longest sequence
 * @returns Base, head size, scaling
 * @throws {InputError} When the kind is not supported or a value is missing or of the wrong kind
 */
export function readRope(
  read: ConfigReader,
  { dim, maxLength }: { readonly dim: number; readonly maxLength: number },
): RopeConfig {
  if (dim % 2 !== 0) throw read.error("head_dim", "rotary positions need an even number", dim);
  const legacy = read.record("rope_scaling"), empty = Object.keys(legacy ?? {}).length === 0;
  const place = empty && read.record("rope_parameters") !== null ? "rope_parameters" : "rope_scaling";
  const rope = read.record(place) ?? {};
  const unknown = Object.keys(rope).find((key) => !KEYS.includes(key) && rope[key] !== null);
  if (unknown !== undefined) {
    throw read.error(`${place}.${unknown}`, `only ${KEYS.join(", ")} are supported`, rope[unknown]);
  }
  read.only("partial_rotary_factor", 1);
  if ((rope.partial_rotary_factor ?? 1) !== 1) {
    throw read.error(`${place}.partial_rotary_factor`, "it must be 1", rope.partial_rotary_factor);
  }
  const number = (key: string): number => {
    const value = rope[key];
    if (typeof value === "number" && value > 0 && Math.fround(value) < Infinity) return value;
    throw read.error(`${place}.${key}`, "it must be a positive number", value);
  };
  const type = rope.rope_type ?? rope.type ?? "default";
  if (type !== "default" && type !== "llama3") {
    throw read.error(`${place}.rope_type`, 'it must be "default" or "llama3"', type);
  }
  const theta = (rope.rope_theta ?? null) === null ? read.number("rope_theta", 10000) : number("rope_theta");
  // Below 1, the frequencies of later pairs grow, in the end to infinity.
  if (theta < 1) throw read.error("rope_theta", "it must be at least 1", theta);
  if (type === "default") return { theta, dim };
  const scaling: Llama3Scaling = {
    type,
    factor: number("factor"),
    lowFreqFactor: number("low_freq_factor"),
    highFreqFactor: number("high_freq_factor"),
    // As in transformers 5: beside rotary positions before within, and the longest sequence where there is neither.
    originalLength: read.countOrNull("original_max_position_embeddings", null) ??
      ((rope.original_max_position_embeddings ?? null) === null
        ? maxLength
        : number("original_max_position_embeddings")),
  };
  if (scaling.factor < 1) throw read.error(`${place}.factor`, "it must be at least 1", scaling.factor);
  if (scaling.highFreqFactor <= scaling.lowFreqFactor) {
    const rule = `it must be above low_freq_factor ${scaling.lowFreqFactor}`;
    throw read.error(`${place}.high_freq_factor`, rule, scaling.highFreqFactor);
  }
  return { theta, dim, scaling };
}
