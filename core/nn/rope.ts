/**
 * Rotary position embedding: tables of angles.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import { tensor } from "../sources.ts";
import type { Tensor } from "../tensor.ts";
import { plainFrequencies, type RopeScaling, scaledFrequencies } from "./rope_scaling.ts";

/** How positions become angles. */
export interface RopeConfig {
  /** Base of the geometric series of frequencies, 10000 in the paper. */
  readonly theta: number;
  /** Leading elements of a head that are rotated, R; one more where it is odd. The others stay as they are. */
  readonly dim: number;
  /** How frequencies change for sequences longer than in pretraining; they stay when absent. */
  readonly scaling?: RopeScaling;
}

/** Cosines and sines of the angle of each position and pair of channels. */
export interface RopeTables {
  /** f32 [T, R / 2]. */
  readonly cos: Tensor;
  /** f32 [T, R / 2]. */
  readonly sin: Tensor;
}

/**
 * The frequency of each pair of channels.
 *
 * Source: Su et al., "RoFormer", arXiv 2104.09864, section 3.4.2.
 *
 * @param config Base, rotated elements, scaling
 * @param options `length`: positions of the sequence, which some kinds of scaling depend on; 0 when absent
 * @returns Radians a position, R / 2 numbers, rounded up
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ropeFrequencies } from "@firn/train/nn";
 *
 * assertEquals(ropeFrequencies({ theta: 100, dim: 4 }), [1, 0.1]);
 * ```
 */
export function ropeFrequencies(
  { theta, dim, scaling }: RopeConfig,
  { length = 0 }: { readonly length?: number } = {},
): readonly number[] {
  return scaling === undefined
    ? plainFrequencies({ theta, dim })
    : scaledFrequencies(scaling, { theta, dim, length });
}

/** Whether the angle of a position depends on how long the sequence is. */
export function dependsOnLength({ scaling }: RopeConfig): boolean {
  return scaling?.type === "dynamic" || scaling?.type === "longrope";
}

/**
 * Refuses packed rows whose length would change the angles of the documents in them.
 *
 * @param tables Rotary tables
 * @param length Tokens of a row
 * @throws {InputError} When the kind of positions depends on the length, and rows are longer than those of training were
 */
export function checkPackedRope({ cos }: RopeTables, length: number): void {
  const scaling = ropeConfigOf(cos)?.scaling;
  if (scaling?.type !== "dynamic" && scaling?.type !== "longrope") return;
  if (length <= scaling.originalLength) return;
  throw new InputError(
    `Cannot use rotary positions "${scaling.type}" on packed rows of ${length} tokens as they would be those of a text as ` +
      `long as the row: use rows of at most ${scaling.originalLength}`,
  );
}

/** Tables by configuration and length. Equal tensors are one constant of a plan only if they are the same object. */
const computed = new WeakMap<RopeConfig, Map<number, RopeTables>>();

/**
 * Tables of cosines and sines, computed in float64. The same configuration object and length give the same tensors.
 *
 * @param config Base, rotated elements, scaling
 * @param options `length`: positions T
 * @returns f32 [T, R / 2] each
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { openGpu, read } from "@firn/train";
 * import { ropeTables } from "@firn/train/nn";
 *
 * await using gpu = await openGpu();
 * const { cos } = ropeTables({ theta: 10000, dim: 2 }, { length: 2 });
 * assertEquals([...await read(gpu, cos)], [1, Math.fround(Math.cos(1))]);
 * ```
 */
export function ropeTables(config: RopeConfig, { length }: { readonly length: number }): RopeTables {
  const known = computed.get(config) ?? new Map<number, RopeTables>();
  computed.set(config, known);
  if (!known.has(length)) known.set(length, tablesOf(config, length));
  return known.get(length)!;
}

/** Configurations by their table of cosines. */
const configs = new WeakMap<Tensor, RopeConfig>();

/**
 * The configuration that tables were made from.
 *
 * @param cos Cosines of {@link ropeTables}
 * @returns The configuration; undefined for any other tensor
 */
export function ropeConfigOf(cos: Tensor): RopeConfig | undefined {
  return configs.get(cos);
}

function tablesOf(config: RopeConfig, length: number): RopeTables {
  const half = Math.ceil(config.dim / 2),
    places = Array.from({ length }, (_, position) => ({ position, length }));
  const { cos, sin } = ropeRows(config, places);
  const tables = { cos: tensor(cos, [length, half]), sin: tensor(sin, [length, half]) };
  configs.set(tables.cos, config);
  return tables;
}

/**
 * Cosines and sines of some positions, each in a sequence of its own length.
 *
 * @param config Base, rotated elements, scaling
 * @param places Positions, and how many positions their sequence has
 * @returns Rows of R / 2 numbers each
 */
export function ropeRows(
  config: RopeConfig,
  places: readonly { readonly position: number; readonly length: number }[],
): { readonly cos: Float32Array; readonly sin: Float32Array } {
  const factor = config.scaling !== undefined && "attentionFactor" in config.scaling
    ? config.scaling.attentionFactor
    : 1;
  const half = Math.ceil(config.dim / 2);
  const cos = new Float32Array(places.length * half), sin = new Float32Array(places.length * half);
  let frequencies = ropeFrequencies(config), last = 0;
  places.forEach(({ position, length }, t) => {
    if (length !== last) frequencies = ropeFrequencies(config, { length });
    last = length;
    frequencies.forEach((frequency, i) => {
      cos[t * half + i] = factor * Math.cos(position * frequency);
      sin[t * half + i] = factor * Math.sin(position * frequency);
    });
  });
  return { cos, sin };
}
