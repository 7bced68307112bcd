/**
 * Flags of what ranks exchange.
 *
 * @module
 */

import { sgd, type TrainingOptions } from "@firn/train";
import { averageParameters } from "@firn/train/ranks";
import { type Flag, fromZero, oneOf, positive, topic, UsageError, whole } from "./flags.ts";

/** Steps between averages of parameters. */
const EVERY = 10;

/** Flags of commands whose ranks may take steps alone. */
export const EXCHANGE_FLAGS: {
  readonly exchange: Flag<"gradients" | "parameters">;
  readonly "exchange-every": Flag<number | null>;
  readonly "exchange-delay": Flag<number>;
  readonly wire: Flag<"f32" | "bf16" | "int8">;
  readonly "outer-lr": Flag<number>;
  readonly "outer-momentum": Flag<number>;
} = topic("ranks", {
  exchange: oneOf(
    ["gradients", "parameters"],
    "what ./firn ranks N exchanges: gradients in every step, which is training with N times the batch; or parameters every " +
      "--exchange-every steps, which each rank takes alone: far fewer bytes, and another loss",
    "gradients",
  ),
  "exchange-every": whole(`steps between averages of parameters; ${EVERY} when absent`, null),
  "exchange-delay": whole(
    "steps that are taken while parameters are on their way, fewer than --exchange-every, so that no rank waits; where a policy looks, " +
      "and for --evaluate-every, all wait",
    0,
    0,
  ),
  wire: oneOf(
    ["f32", "bf16", "int8"],
    "how parameters are sent; bf16 and int8 send changes in fewer bytes, and what they leave of them with the next, without " +
      "--exchange-delay",
    "f32",
  ),
  "outer-lr": positive("rate of the mean change of all ranks: 1 takes their mean, 0.7 is that of DiLoCo", 1),
  "outer-momentum": fromZero("Nesterov's momentum of these changes: 0 for none, 0.9 is that of DiLoCo", 0),
});

/** Values of {@link EXCHANGE_FLAGS}. */
export type ExchangeFlags = {
  readonly [F in keyof typeof EXCHANGE_FLAGS]: (typeof EXCHANGE_FLAGS)[F]["fallback"];
};

/** What ranks exchange; gradients when absent. */
export type Averaging = Partial<Pick<ExchangeFlags, "exchange">>;

/** Whether ranks exchange parameters, so that each saves what is its own. */
export function isAveraged({ exchange }: Averaging): boolean {
  return exchange === "parameters";
}

/** The option `exchange` of a training. */
export function exchangeOf(
  flags: ExchangeFlags & Pick<Beside, "evaluate-every">,
): TrainingOptions["exchange"] {
  if (!isAveraged(flags)) return { of: "gradients" };
  const { wire, "outer-lr": learningRate, "outer-momentum": momentum, "exchange-delay": delay } = flags;
  // What an evaluation finds decides what is kept, and when training ends: on all ranks alike.
  const judged = delay > 0 ? flags["evaluate-every"] ?? null : null;
  const isMean = learningRate === 1 && momentum === 0;
  return averageParameters({
    every: everyOf(flags),
    wire,
    delay,
    ...judged !== null && { meetEvery: judged },
    ...!isMean && { outer: sgd({ learningRate, momentum, nesterov: momentum > 0 }) },
  });
}

/**
 * Steps between looks: those of a policy come after an average, so that they are as rare.
 *
 * @param flags The flags
 * @param usual Steps between looks of other runs
 * @returns Steps
 */
export function averagedLooks(flags: ExchangeFlags & { readonly steps: number }, usual: number): number {
  if (!isAveraged(flags)) return usual;
  const every = everyOf(flags);
  return Math.min(flags.steps, every * Math.ceil(usual / every));
}

function everyOf({ "exchange-every": every }: ExchangeFlags): number {
  return every ?? EVERY;
}

/** Flags that do not go with every exchange. */
interface Beside extends ExchangeFlags {
  readonly "evaluate-every"?: number | null;
  readonly "checkpoint-minutes"?: number | null;
  readonly keep?: number;
  readonly survive?: boolean;
}

/**
 * Refuses flags that do not go together.
 *
 * @param flags The flags
 * @throws {UsageError} When they do not
 */
export function checkExchange(flags: Beside): void {
  if (!isAveraged(flags)) {
    const odd = (["exchange-every", "exchange-delay", "wire", "outer-lr", "outer-momentum"] as const).find((
      name,
    ) => flags[name] !== EXCHANGE_FLAGS[name].fallback);
    if (odd !== undefined) throw new UsageError(`--${odd} is of parameters: add --exchange parameters`);
    return;
  }
  const every = everyOf(flags),
    { "exchange-delay": delay, "evaluate-every": judged = null, "checkpoint-minutes": minutes = null } =
      flags;
  if (delay >= every) {
    throw new UsageError(`--exchange-delay must be less than --exchange-every ${every}: got ${delay}`);
  }
  if (delay > 0 && flags.wire !== "f32") {
    throw new UsageError(
      `--exchange-delay goes with --wire f32, as codes must be waited for: drop --exchange-delay ${delay}, or --wire ${flags.wire}`,
    );
  }
  if (judged !== null && judged % every !== 0) {
    throw new UsageError(
      `--evaluate-every must be a multiple of --exchange-every ${every}, as between averages each rank has other weights: got ${
        judged < 1 ? `${judged} of the run; give steps` : judged
      }`,
    );
  }
  if (minutes !== null) {
    throw new UsageError(
      "--checkpoint-minutes goes by the clock of each rank: with --exchange parameters give --checkpoint",
    );
  }
  if (flags.survive) {
    throw new UsageError(
      "--survive takes a step once more, which --exchange parameters cannot: give one of both",
    );
  }
  if ((flags.keep ?? 2) < 2) {
    throw new UsageError(
      "--exchange parameters needs --keep 2: the newest checkpoint may not be that of all ranks",
    );
  }
}
