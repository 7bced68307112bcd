/**
 * Steps of ranks that go on where one of them dies.
 *
 * @module
 */

import { scan, type TensorTree, type Training, type TrainingState } from "@firn/train";
import { RanksError, RanksLostError } from "@firn/train/ranks";
import type { Joined } from "./ranks.ts";

/** What {@link survivingSteps} needs. */
export interface SurvivingOptions<B extends TensorTree> {
  /** The batches after a step. */
  readonly batchesAfter: (step: number) => Iterable<B> | AsyncIterable<B>;
  readonly joined: Joined | null;
  /** Prints a line. */
  readonly say: (line: string) => void;
}

/**
 * The states of a training. Where a rank dies in an exchange, no rank has taken that step: those that are left take it once more,
 * with the samples of all.
 *
 * @param training The training
 * @param state The state before the first step
 * @param options Its batches, and the ranks
 * @returns The states
 * @throws {RanksError} When rank 0 died, which writes the run
 */
export async function* survivingSteps<P extends TensorTree, B extends TensorTree>(
  training: Training<P, B>,
  state: TrainingState<P>,
  { batchesAfter, joined, say }: SurvivingOptions<B>,
): AsyncGenerator<TrainingState<P>, void, undefined> {
  for (;;) {
    try {
      for await (state of scan(training, state, batchesAfter(state.step))) yield state;
      return;
    } catch (error) {
      const survival = joined?.ranks.survival;
      if (!(error instanceof RanksLostError) || survival === undefined) throw error;
      if (survival.lost.includes(0)) {
        throw new RanksError(
          "Cannot go on as rank 0, which writes the run, died: go on with --resume and as many ranks as at first",
          { cause: error },
        );
      }
      survival.goOn();
      const { size } = joined!.ranks;
      say(
        `step ${state.step}: rank ${survival.lost.join(", ")} died: ${
          size === 1 ? "1 goes" : `${size} go`
        } on, with all samples`,
      );
    }
  }
}
