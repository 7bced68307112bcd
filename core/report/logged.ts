/**
 * The states of a training on their way through a log.
 *
 * @module
 */

import type { Training, TrainingState } from "../train/types.ts";
import type { TensorTree } from "../tree.ts";
import { exchangePace } from "./exchange_pace.ts";
import { type Logger, logLines, recorder } from "./logger.ts";
import { componentsLine, type RunLog, stepLines } from "./run_log.ts";
import type { Line } from "./types.ts";

/** Options of {@link logged}. */
export interface LoggedOptions {
  /** Takes what is measured. */
  readonly logger?: Logger;
  /** A log that gets the lines of steps and freezes; its start and its end are added by who knows them. */
  readonly log?: RunLog;
  /** The training, for the components of the model, what its policy is told of the run, and batches of a step. */
  readonly training?: Pick<Training<TensorTree, never>, "components" | "info" | "accumulate">;
  /** Tokens of a batch, for tokens a second. */
  readonly tokens?: number;
  /** Bytes on the device, such as `() => gpu.counts.bytes`. */
  readonly memory?: () => number;
  /** Milliseconds so far that are not of steps, such as those of evaluations in between; none when absent. */
  readonly apart?: () => number;
}

/**
 * Passes the states of a training on, and logs what looks bring. It reads nothing from the device that the training does not
 * read: bits and pace of the run stay what they are.
 *
 * @param states The states, such as those of `scan`
 * @param options Where the log goes, and what it should know
 * @returns The same states
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { defineTraining, multiply, openGpu, scan, sgd, sum, type Tensor, tensor } from "@firn/train";
 * import { logged, type LogRecord } from "@firn/train/report";
 *
 * await using gpu = await openGpu();
 * const loss = ({ w }: { w: Tensor }, { x }: { x: Tensor }): Tensor => sum(multiply(w, x));
 * const training = defineTraining(gpu, loss, { optimizer: sgd({ learningRate: 1 }), steps: 3, lookEvery: 1 });
 * const first = await training.init({ w: tensor([0]) });
 * const states = scan(training, first, [1, 2, 3].map((x) => ({ x: tensor([x]) })));
 * const seen: LogRecord[] = [];
 * for await (const state of logged(states, { training, logger: (records) => void seen.push(...records) })) {
 *   console.log(`step ${state.step}`);
 * }
 * assertEquals(seen.map(({ step, numbers }) => [step, numbers["train/loss"]]), [[1, 0], [2, -2], [3, -9]]);
 * ```
 */
export async function* logged<P extends TensorTree>(
  states: AsyncIterable<TrainingState<P>>,
  { logger, log, training, tokens, memory, apart = () => 0 }: LoggedOptions,
): AsyncGenerator<TrainingState<P>, void, undefined> {
  const recordOf = recorder(log?.lines);
  const add = async (lines: readonly Line[]): Promise<void> => {
    await log?.add(lines);
    if (logger !== undefined) await logLines(lines, { recordOf, logger });
  };
  let told = log?.lines.some(({ kind }) => kind === "components") ?? false;
  const clock = (): number => performance.now() - apart();
  const exchange = exchangePace();
  let clockAt = clock(), looked: number | null = null;
  for await (const state of states) {
    looked ??= state.step - 1;
    if (!told && training !== undefined) {
      await add([componentsLine(training)]);
      told = true;
    }
    exchange.add(state.exchange);
    if (state.look !== null) {
      const stepMs = (clock() - clockAt) / (state.step - looked);
      const batches = training?.accumulate ?? 1;
      await add(stepLines(state as TrainingState<object>, {
        stepMs,
        ...exchange.take(),
        ...tokens !== undefined && { tokensPerSecond: Math.round(batches * tokens / stepMs * 1000) },
        ...memory !== undefined && { memoryBytes: memory() },
      }));
    }
    if (state.event !== null) await add([{ kind: "freeze", ...state.event }]);
    if (state.look !== null || state.rolledBack !== undefined) {
      [clockAt, looked] = [clock(), state.step];
    }
    yield state;
  }
}
