/**
 * What a run says of freezing at its end: forecast, result, and what the study recommends.
 *
 * @module
 */

import { flopText, type FreezeSavings, freezeSavings, type Line, percent } from "@firn/train/report";
import { recommendation, type TaskKind } from "./recommend.ts";
import type { Summary } from "./run.ts";

/**
 * Sums up what freezing saved and cost against a run of all planned steps without it.
 *
 * @param lines The log of the run
 * @param options The policy's name, and the kind of task where the study knows it
 * @returns The rows; none without a policy
 */
export function freezingRows(
  lines: readonly Line[],
  { policy, kind }: { readonly policy: string; readonly kind?: TaskKind },
): Summary {
  const savings = policy === "none" ? null : freezeSavings(lines);
  if (savings === null) return [];
  const { steps, flops, seconds } = savings;
  return [
    [
      "Forecast",
      `${steps.forecast} steps without a freeze: ${flopText(flops.forecast)}` +
      (seconds === null ? "" : `, ${secondsText(seconds.forecast)}`),
    ],
    ["Real", realText(savings)],
    ...kind === undefined ? [] : [["Recommended", recommendation(kind)] as const],
  ];
}

function realText({ steps, flops, seconds, changes, changeSeconds }: FreezeSavings): string {
  const changed = (
    text: string,
    { forecast, real }: { readonly forecast: number; readonly real: number },
  ): string => `${text} (${percent(forecast, real)})`;
  const parts = [
    changed(flopText(flops.real), flops),
    ...seconds === null ? [] : [changed(secondsText(seconds.real), seconds)],
    changesText(changes, seconds === null ? null : changeSeconds),
  ];
  return `${steps.real} steps: ${parts.join(", ")}`;
}

function changesText(changes: number, seconds: number | null): string {
  if (changes === 0) return "nothing froze";
  const said = `${changes === 1 ? "a change" : `${changes} changes`} of the frozen set`;
  return seconds === null ? `with ${said}` : `of these ${secondsText(seconds)} for ${said}`;
}

function secondsText(seconds: number): string {
  return `${seconds.toFixed(1)} s`;
}
