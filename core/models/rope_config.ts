/**
 * Rotary positions as `config.json` describes them.
 *
 * @module
 */

import { isRecord } from "../json_rules.ts";
import type { RopeConfig } from "../nn/rope.ts";
import type { RopeScaling } from "../nn/rope_scaling.ts";
import type { ConfigReader } from "./config_reader.ts";

/** Keys of every kind. */
const COMMON = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];

const ORIGINAL = "original_max_position_embeddings";

/** The keys of each kind; any other could change the angles, so it is refused. */
const KEYS: Readonly<Record<RopeScaling["type"] | "default", readonly string[]>> = {
  // A length that no kind of scaling reads changes nothing.
  default: [ORIGINAL, "factor", "low_freq_factor", "high_freq_factor"],
  linear: ["factor", ORIGINAL],
  dynamic: ["factor", ORIGINAL],
  llama3: ["factor", "low_freq_factor", "high_freq_factor", ORIGINAL],
  yarn: [
    "factor",
    "beta_fast",
    "beta_slow",
    "truncate",
    "attention_factor",
    "mscale",
    "mscale_all_dim",
    ORIGINAL,
  ],
  longrope: ["factor", "short_factor", "long_factor", "attention_factor", ORIGINAL],
};

const FULL = "full_attention", SLIDING = "sliding_attention", LAYERS: readonly string[] = [FULL, SLIDING];

/** A kind of layers, by the names of `layer_types`. */
export type LayerKind = typeof FULL | typeof SLIDING;

/** Options of {@link readRope}. */
export interface RopeOptions {
  /** Elements of a head. */
  readonly dim: number;
  /** Longest sequence, in positions. */
  readonly maxLength: number;
  /** Base where the configuration has none; 10000 when absent. */
  readonly theta?: number;
  /** Share of a head that is rotated where the configuration has none; families without it rotate all. */
  readonly partial?: number;
  /** Positions of pretraining where the configuration has none; the longest sequence when absent. */
  readonly original?: number;
  /** Which layers, for families that have rotary positions of each kind; all when absent. */
  readonly layer?: LayerKind;
  /** Kinds of the family by other names. */
  readonly aliases?: Readonly<Record<string, RopeScaling["type"]>>;
}

/**
 * Reads the base and the scaling of rotary positions, where either version of `transformers` writes them:
 * `rope_parameters`, or `rope_theta` with `rope_scaling`. Where both stand, `rope_scaling` counts, as in transformers 5.
 *
 * @param read The configuration
 * @param options Sizes, and what differs between families
 * @returns Base, rotated elements, scaling
 * @throws {InputError} When the kind is not supported or a value is missing or of the wrong kind
 */
export function readRope(read: ConfigReader, options: RopeOptions): RopeConfig {
  const { layer } = options;
  if (layer !== undefined) return readLayerRope(read, { ...options, layer });
  const legacy = read.record("rope_scaling"), empty = Object.keys(legacy ?? {}).length === 0;
  const place = empty && read.record("rope_parameters") !== null ? "rope_parameters" : "rope_scaling";
  return ropeOf(read, { ...options, place, rope: read.record(place) ?? {} });
}

/**
 * The longest sequence of a model. Dynamic positions are made for sequences that are longer by their factor.
 *
 * @param rope Rotary positions
 * @param positions `max_position_embeddings`
 * @returns Positions
 */
export function longest({ scaling }: RopeConfig, positions: number): number {
  return scaling?.type === "dynamic" ? Math.floor(positions * scaling.factor) : positions;
}

/** The record of one kind of layers. */
function readLayerRope(read: ConfigReader, options: RopeOptions & { readonly layer: LayerKind }): RopeConfig {
  const all = read.record("rope_parameters") ?? {}, { layer } = options;
  const unknown = Object.keys(all).find((key) => !LAYERS.includes(key));
  if (unknown !== undefined) {
    throw read.error(`rope_parameters.${unknown}`, `only ${LAYERS.join(" and ")} are known`, all[unknown]);
  }
  const place = `rope_parameters.${layer}`, own = all[layer] ?? {};
  if (!isRecord(own)) throw read.error(place, "it must be a record", own);
  // The older form has the base of sliding layers under a name of its own, and scales full layers only.
  const older = layer === FULL ? read.record("rope_scaling") ?? {} : {};
  return ropeOf(read, { ...options, place, rope: { ...own, ...older } });
}

/** A record of rotary positions and where it stands. */
interface Found extends RopeOptions {
  readonly place: string;
  readonly rope: Readonly<Record<string, unknown>>;
}

function ropeOf(read: ConfigReader, found: Found): RopeConfig {
  const { place, rope, aliases = {} } = found;
  const named = rope.rope_type ?? rope.type ?? "default";
  const type = typeof named === "string" && Object.hasOwn(aliases, named) ? aliases[named] : named;
  if (typeof type !== "string" || !Object.hasOwn(KEYS, type)) {
    const known = Object.keys(KEYS).map((key) => `"${key}"`).join(", ");
    throw read.error(`${place}.rope_type`, `it must be one of ${known}`, type);
  }
  const keys = [...COMMON, ...KEYS[type as keyof typeof KEYS]];
  const unknown = Object.keys(rope).find((key) => !keys.includes(key) && (rope[key] ?? null) !== null);
  if (unknown !== undefined) {
    throw read.error(`${place}.${unknown}`, `only ${keys.join(", ")} are supported`, rope[unknown]);
  }
  const theta = (rope.rope_theta ?? null) === null
    ? read.number(found.layer === SLIDING ? "rope_local_base_freq" : "rope_theta", found.theta ?? 10000)
    : positive(read, { found, key: "rope_theta" });
  // Below 1, the frequencies of later pairs grow, in the end to infinity.
  if (theta < 1) throw read.error("rope_theta", "it must be at least 1", theta);
  const dim = rotated(read, found);
  if (type === "default") return { theta, dim };
  return { theta, dim, scaling: SCALINGS[type as RopeScaling["type"]](read, { ...found, theta, dim }) };
}

/** Elements of a head that are rotated. */
function rotated(read: ConfigReader, { place, rope, dim, partial }: Found): number {
  if (partial === undefined) {
    read.only("partial_rotary_factor", 1);
    if ((rope.partial_rotary_factor ?? 1) !== 1) {
      throw read.error(`${place}.partial_rotary_factor`, "it must be 1", rope.partial_rotary_factor);
    }
  }
  const within = (rope.partial_rotary_factor ?? null) !== null;
  const share = within ? rope.partial_rotary_factor : read.number("partial_rotary_factor", partial ?? 1);
  const at = within ? `${place}.partial_rotary_factor` : "partial_rotary_factor";
  if (typeof share !== "number" || !(share > 0 && share <= 1)) {
    throw read.error(at, "it must be a number above 0 and at most 1", share);
  }
  const turned = Math.floor(dim * share);
  if (share === 1 && turned % 2 !== 0) {
    throw read.error("head_dim", "rotary positions need an even number", dim);
  }
  if (turned === 0) throw read.error(at, `rotary positions need at least 1 of a head of ${dim}`, share);
  return turned;
}

type Ready = Found & { readonly theta: number };

const SCALINGS: {
  readonly [K in RopeScaling["type"]]: (
    read: ConfigReader,
    found: Ready,
  ) => Extract<RopeScaling, { readonly type: K }>;
} = {
  linear: (read, found) => ({ type: "linear", factor: factorOf(read, found) }),
  dynamic(read, found) {
    if (found.dim < 4) throw read.error("head_dim", "dynamic rotary positions need at least 4", found.dim);
    // In transformers, the length that counts is the longest one, whatever else stands there.
    return { type: "dynamic", factor: factorOf(read, found), originalLength: found.maxLength };
  },
  llama3(read, found) {
    const scaling = {
      type: "llama3",
      factor: factorOf(read, found),
      lowFreqFactor: positive(read, { found, key: "low_freq_factor" }),
      highFreqFactor: positive(read, { found, key: "high_freq_factor" }),
      originalLength: originalLength(read, found),
    } as const;
    if (scaling.highFreqFactor <= scaling.lowFreqFactor) {
      const rule = `it must be above low_freq_factor ${scaling.lowFreqFactor}`;
      throw read.error(`${found.place}.high_freq_factor`, rule, scaling.highFreqFactor);
    }
    return scaling;
  },
  yarn(read, found) {
    const original = originalLength(read, found), { place, rope } = found;
    const factor = optionalFactor(read, found) ?? found.maxLength / original;
    const [mscale, all] = ["mscale", "mscale_all_dim"].map((key) =>
      // Zero is as good as absent in transformers.
      (rope[key] ?? 0) === 0 ? null : positive(read, { found, key })
    );
    const scale = (by: number): number => factor <= 1 ? 1 : 0.1 * by * Math.log(factor) + 1;
    const [betaFast, betaSlow] = [
      optional(read, { found, key: "beta_fast" }) ?? 32,
      optional(read, {
        found,
        key: "beta_slow",
      }) ?? 1,
    ];
    if (betaFast <= betaSlow) {
      throw read.error(`${place}.beta_fast`, `it must be above beta_slow ${betaSlow}`, betaFast);
    }
    if (found.theta <= 1) throw read.error(`${place}.rope_theta`, "yarn needs more than 1", found.theta);
    if (found.dim % 2 !== 0) {
      throw read.error(`${place}.partial_rotary_factor`, "yarn needs an even number of elements", found.dim);
    }
    const truncate = rope.truncate ?? true;
    if (typeof truncate !== "boolean") {
      throw read.error(`${place}.truncate`, "it must be true or false", truncate);
    }
    const attentionFactor = optional(read, { found, key: "attention_factor" }) ??
      (mscale !== null && all !== null ? scale(mscale) / scale(all) : scale(1));
    return { type: "yarn", factor, betaFast, betaSlow, truncate, attentionFactor, originalLength: original };
  },
  longrope(read, found) {
    const original = originalLength(read, found);
    const factor = optionalFactor(read, found) ?? found.maxLength / original;
    const attentionFactor = optional(read, { found, key: "attention_factor" }) ??
      (factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original)));
    return {
      type: "longrope",
      shortFactor: divisors(read, { found, key: "short_factor" }),
      longFactor: divisors(read, { found, key: "long_factor" }),
      attentionFactor,
      originalLength: original,
    };
  },
};

interface At {
  readonly found: Found;
  readonly key: string;
}

function positive(read: ConfigReader, { found: { place, rope }, key }: At): number {
  const value = rope[key];
  if (isPositive(value)) return value;
  throw read.error(`${place}.${key}`, "it must be a positive number", value);
}

const isPositive = (value: unknown): value is number =>
  typeof value === "number" && value > 0 && Math.fround(value) < Infinity;

function optional(read: ConfigReader, at: At): number | null {
  return (at.found.rope[at.key] ?? null) === null ? null : positive(read, at);
}

function factorOf(read: ConfigReader, found: Found): number {
  const factor = positive(read, { found, key: "factor" });
  if (factor < 1) throw read.error(`${found.place}.factor`, "it must be at least 1", factor);
  return factor;
}

function optionalFactor(read: ConfigReader, found: Found): number | null {
  return (found.rope.factor ?? null) === null ? null : factorOf(read, found);
}

/**
 * Positions of pretraining. As in transformers 5: beside rotary positions before within, and the longest sequence where
 * there is neither.
 */
function originalLength(read: ConfigReader, found: Found): number {
  return read.countOrNull(ORIGINAL, null) ?? optional(read, { found, key: ORIGINAL }) ??
    found.original ?? found.maxLength;
}

function divisors(read: ConfigReader, { found, key }: At): readonly number[] {
  const value = found.rope[key], pairs = Math.ceil(found.dim / 2);
  if (Array.isArray(value) && value.length === pairs && value.every(isPositive)) return value;
  throw read.error(`${found.place}.${key}`, `it must be a list of ${pairs} positive numbers`, value);
}
