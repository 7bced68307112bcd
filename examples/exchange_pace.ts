/**
 * How long the exchange between ranks takes, from one look to the next.
 *
 * @module
 */

import type { ExchangeTime } from "@firn/train";
import type { StepLine } from "@firn/train/report";

/** Collects the exchanges of steps. */
export interface ExchangePace {
  /** Adds that of a step. */
  add(exchange: ExchangeTime | undefined): void;
  /** Means of a step since the last call; nothing where there was no exchange. */
  take(): Pick<StepLine, "exchangeMs" | "exchangeWaitedMs">;
}

/** Makes one, empty at first. */
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
