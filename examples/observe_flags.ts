/**
 * Flags about how a run is observed while it trains. None of them changes a result.
 *
 * @module
 */

import { type Logger, tensorBoardLogger } from "@firn/train/report";
import { type Flag, oneOf, toggle, topic, type Values } from "./flags.ts";
import type { Display } from "./progress.ts";
import { portFlag } from "./port_flag.ts";

/** Flags about observing. */
export const OBSERVE_FLAGS: {
  readonly watch: Flag<number | null>;
  readonly tensorboard: Flag<boolean>;
  readonly progress: Flag<Display>;
} = topic("observing", {
  watch: portFlag(
    "serve a page that follows the run at that port of this machine, 0 for any; none when absent",
    null,
  ),
  tensorboard: toggle("write event files of TensorBoard to the folder tensorboard in --out"),
  progress: oneOf<Display>(
    ["auto", "bar", "lines", "none"],
    "a bar that moves, lines now and then, or nothing; auto: a bar on a terminal, lines elsewhere",
    "auto",
  ),
});

/** Values of {@link OBSERVE_FLAGS}. */
export type ObserveFlags = Values<typeof OBSERVE_FLAGS>;

/**
 * Makes the logger that flags ask for.
 *
 * @param flags The flags
 * @param options Folder of the run, and the step that it goes on from; 0 for a new one
 * @returns The logger; undefined where none is asked for
 */
export function loggerOf(
  { tensorboard }: Pick<ObserveFlags, "tensorboard">,
  { folder, from }: { readonly folder: string; readonly from: number },
): Logger | undefined {
  return tensorboard ? tensorBoardLogger(`${folder}/tensorboard`, { from }) : undefined;
}
