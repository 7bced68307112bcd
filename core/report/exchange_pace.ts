/**
 * How long the exchange between ranks takes, from one look to the next.
 *
 * @module
 */

import type { ExchangeTime } from "../train/parameter_exchange.ts";
import type { StepLine } from "./types.ts";

/** Collects the exchanges of steps. */
export interface ExchangePace {
  /** Adds that of a step. */
  add(exchange: ExchangeTime | undefined): void;
  /** Means of a step since the last call; nothing where there was no exchange. */
  take(): Pick<StepLine, "exchangeMs" | "exchangeWaitedMs">;
}

/**
 * Collects how long ranks take to exchange, for the lines of steps.
 *
 * @returns What collects, empty at first
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { exchangePace } from "@firn/train/report";
 *
 * const pace = exchangePace();
 * for (const waitedMs of [1, 2]) pace.add({ ms: 4, waitedMs });
 * assertEquals(pace.take(), { exchangeMs: 4, exchangeWaitedMs: 1.5 });
 * assertEquals(pace.take(), {});
 * ```
 */
export function exchangePace(): ExchangePace {
  let steps = 0, ms = 0, waitedMs = 0;
  return {
    add(exchange) {
      if (exchange === undefined) return;
      steps++;
      ms += exchange.ms;
      waitedMs += exchange.waitedMs;
    },
    take() {
      if (steps === 0) return {};
      const means = { exchangeMs: ms / steps, exchangeWaitedMs: waitedMs / steps };
      steps = ms = waitedMs = 0;
      return means;
    },
  };
}
