/**
 * The part of `config.json` that mixtures of experts share.
 *
 * @module
 */

import type { ConfigReader } from "./config_reader.ts";

/** The values of `config.json` that mixtures of experts depend on. */
export interface MixtureConfig {
  /** Experts of a layer E. */
  readonly experts: number;
  /** Experts of a token. */
  readonly top: number;
  /** Channels of an expert. */
  readonly expertSize: number;
  /** The weights of a token's experts add up to 1. */
  readonly normalize: boolean;
}

/**
 * Reads how many experts there are, and how many of them a token has.
 *
 * @param read The configuration
 * @param defaults Values of absent keys, and the key of the channels of an expert
 * @returns The values
 * @throws {InputError} When a value is of the wrong kind, or a token would have more experts than there are
 */
export function readMixture(
  read: ConfigReader,
  { experts: most, size, sizeKey }: {
    readonly experts: number;
    readonly size?: number;
    readonly sizeKey: string;
  },
): MixtureConfig {
  // Versions of transformers have either name.
  const experts = read.count("num_experts", read.count("num_local_experts", most));
  const top = read.count("num_experts_per_tok", 8);
  if (top > experts) {
    throw read.error("num_experts_per_tok", `it must be at most the number of experts, ${experts}`, top);
  }
  // It would add a loss of the router.
  read.only("output_router_logits", false);
  return {
    experts,
    top,
    expertSize: read.count(sizeKey, size),
    normalize: read.boolean("norm_topk_prob", false),
  };
}
