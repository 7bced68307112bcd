/**
 * What a run says of freezing at its end: forecast, result, what was cached, and what the study recommends.
 *
 * @module
 */

import type { CachedPrefix, FreezePolicy, Path, Training } from "@firn/train";
import {
  bytesText,
  counted,
  flopText,
  type FreezeSavings,
  freezeSavings,
  type Line,
  percent,
} from "@firn/train/report";
import { recommendation, type TaskKind } from "./recommend.ts";
import type { Summary } from "./run.ts";

/**
 * Sums up what freezing saved and cost against a run of all planned steps without it.
 *
 * @param lines The log of the run
 * @param options The policy's name, the kind of task where the study knows it, and the cache of a frozen prefix, if there was one
 * @returns The rows; without a policy those of the cache alone
 */
export function freezingRows(
  lines: readonly Line[],
  { policy, kind, prefix = null }: {
    readonly policy: string;
    readonly kind?: TaskKind;
    readonly prefix?: CachedPrefix | null;
  },
): Summary {
  const savings = policy === "none" ? null : freezeSavings(lines), cached = cachedRows(prefix);
  if (savings === null) return cached;
  const { steps, flops, seconds } = savings;
  return [
    [
      "Forecast",
      `${counted(steps.forecast, "step")} without a freeze: ${flopText(flops.forecast)} by all kernels` +
      (seconds === null ? "" : `, ${secondsText(seconds.forecast)}`),
    ],
    ["Real", realText(savings)],
    ...cached,
    ...kind === undefined ? [] : [["Recommended", recommendation(kind)] as const],
  ];
}

/**
 * Sums up what froze in a run of which there may be no log.
 *
 * @param training The training, after its last step
 * @param options What is frozen at the end, the policy, and the kind of task
 * @returns The rows; without a policy those of the cache alone
 */
export function frozenRows(
  training: Pick<Training<never, never>, "components" | "prefix">,
  { frozen, policy, kind }: {
    readonly frozen: readonly Path[];
    readonly policy: FreezePolicy | undefined;
    readonly kind: TaskKind;
  },
): Summary {
  const cached = cachedRows(training.prefix());
  if (policy === undefined) return cached;
  const count = `${frozen.length} of ${counted(training.components().length, "component")}`;
  return [["Frozen", count], ...cached, ["Recommended", recommendation(kind)]];
}

/** What the cache of a frozen prefix held at the end, or why it held nothing. */
function cachedRows(prefix: CachedPrefix | null): Summary {
  if (prefix === null) return [];
  const { samples, room, bytes, reason } = prefix;
  if (reason !== null) return [["Cached prefix", `nothing: ${reason}`]];
  return [[
    "Cached prefix",
    samples === 0
      ? "nothing: no step came after the bottom froze, or froze otherwise"
      : `${counted(samples, "sample")}, ${bytesText(bytes)}${samples < room ? "" : ", no room for more"}`,
  ]];
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
  return `${counted(steps.real, "step")}: ${parts.join(", ")}`;
}

function changesText(changes: number, seconds: number | null): string {
  if (changes === 0) return "nothing froze";
  const said = `${changes === 1 ? "a change" : `${changes} changes`} of the frozen set`;
  return seconds === null ? `with ${said}` : `of these ${secondsText(seconds)} for ${said}`;
}

function secondsText(seconds: number): string {
  return `${seconds.toFixed(1)} s`;
}
