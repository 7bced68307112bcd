/**
 * What an exchange costs on paper, before a cluster is rented.
 *
 * @module
 */

import { checkOptions, refuse } from "../arguments.ts";

/** An exchange, and the line that it goes through. */
export interface ExchangeCost {
  /** Bytes that each rank gives. */
  readonly bytes: number;
  /** Ranks that take part. */
  readonly ranks: number;
  /** Bits a second of the line of a host, in each direction. */
  readonly bitsPerSecond: number;
  /** Seconds from one host to another; 0 when absent. */
  readonly latency?: number;
}

/**
 * Seconds of an all-reduce: each byte but a rank's own share goes out twice, once to be added up and once as a sum, in rounds whose
 * number grows with the logarithm of the ranks. Where a host has several ranks, which MPI then places side by side, its line
 * carries as much as that of a host with one.
 *
 * It leaves out what a device adds: reading values back and writing sums.
 *
 * @param cost The exchange
 * @returns Seconds; 0 of one rank
 * @throws {InputError} When a number is out of range
 *
 * @example Gradients of 124 million parameters between 16 hosts with 100 Gbit/s
 * ```ts
 * import { assertAlmostEquals } from "@std/assert";
 * import { exchangeSeconds } from "@firn/train/ranks";
 *
 * const seconds = exchangeSeconds({ bytes: 4 * 124e6, ranks: 16, bitsPerSecond: 100e9, latency: 20e-6 });
 * assertAlmostEquals(seconds, 0.075, 1e-3);
 * ```
 */
export function exchangeSeconds(cost: ExchangeCost): number {
  checkOptions("exchangeSeconds", cost, "its argument must be a record of bytes, ranks and bitsPerSecond");
  const { bytes, ranks, bitsPerSecond, latency = 0 } = cost;
  if (!(bytes >= 0 && bytes < Infinity)) refuse("exchangeSeconds", '"bytes" must be a number from 0', bytes);
  if (!(Number.isSafeInteger(ranks) && ranks >= 1)) {
    refuse("exchangeSeconds", '"ranks" must be a whole number above 0', ranks);
  }
  if (!(bitsPerSecond > 0)) {
    refuse("exchangeSeconds", '"bitsPerSecond" must be a number above 0', bitsPerSecond);
  }
  if (!(latency >= 0 && latency < Infinity)) {
    refuse("exchangeSeconds", '"latency" must be seconds from 0', latency);
  }
  const sent = 2 * bytes * (ranks - 1) / ranks, rounds = 2 * Math.ceil(Math.log2(ranks));
  return 8 * sent / bitsPerSecond + rounds * latency;
}

/** A way to exchange, by what it puts on the line. */
export interface ExchangePlan {
  /** What ranks exchange. */
  readonly of: "gradients" | "parameters";
  /** Steps from one exchange to the next. */
  readonly every: number;
  /** How numbers travel. */
  readonly wire: "f32" | "bf16" | "int8";
}

/** Bytes of a number on the line. */
const WIRE_BYTES: Readonly<Record<ExchangePlan["wire"], number>> = { f32: 4, bf16: 2, int8: 1 };

/** From what changes least of a training to what costs least. */
const PLANS: readonly ExchangePlan[] = [
  { of: "gradients", every: 1, wire: "f32" },
  { of: "parameters", every: 10, wire: "f32" },
  { of: "parameters", every: 10, wire: "int8" },
  { of: "parameters", every: 50, wire: "f32" },
  { of: "parameters", every: 50, wire: "int8" },
  { of: "parameters", every: 500, wire: "int8" },
];

/** The share of a step that an exchange may take: gradients travel while the backward pass goes on, parameters do not. */
const MOST_SHARE: Readonly<Record<ExchangePlan["of"], number>> = { gradients: 0.5, parameters: 0.1 };

/** A chosen way to exchange. */
export interface ChosenExchange extends ExchangePlan {
  /** Seconds that it takes for each step. */
  readonly seconds: number;
}

/**
 * Chooses how to exchange: the first that costs little beside a step, of gradients, which give the training of one large batch, then
 * of parameters ever more rarely and with fewer bits.
 *
 * @param run How many numbers are trained, and how many seconds a step takes without an exchange; the ranks and their line
 * @returns The way, and what it costs; the cheapest where none costs little
 * @throws {InputError} When a number is out of range
 *
 * @example A LoRA adapter needs no more than gradients, where all parameters are better averaged now and then
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { chooseExchange } from "@firn/train/ranks";
 *
 * const cluster = { ranks: 64, bitsPerSecond: 10e9, latency: 20e-6, stepSeconds: 0.5 };
 * assertEquals(chooseExchange({ ...cluster, trained: 10e6 }).of, "gradients");
 * const { of, every, wire } = chooseExchange({ ...cluster, trained: 1e9 });
 * assertEquals([of, every, wire], ["parameters", 50, "int8"]);
 * ```
 */
export function chooseExchange(
  { trained, stepSeconds, ...line }: Omit<ExchangeCost, "bytes"> & {
    /** Numbers that are trained. */
    readonly trained: number;
    /** Seconds of a step without an exchange. */
    readonly stepSeconds: number;
  },
): ChosenExchange {
  if (!(stepSeconds > 0)) refuse("chooseExchange", '"stepSeconds" must be a number above 0', stepSeconds);
  const all = PLANS.map((plan) => ({
    ...plan,
    seconds: exchangeSeconds({ ...line, bytes: trained * WIRE_BYTES[plan.wire] }) / plan.every,
  }));
  return all.find(({ of, seconds }) => seconds <= MOST_SHARE[of] * stepSeconds) ?? all[all.length - 1];
}
