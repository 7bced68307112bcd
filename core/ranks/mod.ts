/**
 * Several processes that train one model, on one machine or many: ranks, which an MPI launcher starts.
 *
 * @module
 */

export { RanksError } from "../errors.ts";
export { type AverageOptions, averageParameters } from "./average_parameters.ts";
export { type Launched, launchedBy, LAUNCHER_VARIABLES } from "./launched.ts";
export { LIBRARY_VARIABLE, openRanks, type RanksOptions } from "./open_ranks.ts";
export { rankBatches, rankShares, type Share } from "./rank_batches.ts";
export {
  chooseExchange,
  type ChosenExchange,
  type ExchangeCost,
  type ExchangePlan,
  exchangeSeconds,
} from "./exchange_cost.ts";
export type { MappedMemory } from "../host/mapped_memory.ts";
export type { Ranks } from "../train/ranks.ts";
export { RanksLostError } from "./survival.ts";
