/**
 * What a step costs, what a freeze saves, and how a run ended, as text.
 *
 * @module
 */

import { counted } from "../counted.ts";
import type { Cost } from "../plan/types.ts";
import type { StepMemory } from "../train/memory.ts";
import type { Ending, FreezeEvent } from "../train/types.ts";
import { scaled } from "./numbers.ts";
import { printable } from "./printable.ts";

/** The relative change of a number, `"-18 %"`; empty when it was 0, or is not a number. */
export function percent(before: number, after: number): string {
  if (before === 0 || !Number.isFinite(after / before)) return "";
  const change = Math.round(100 * (after / before - 1));
  // -100 % would say that nothing is left.
  if (change === -100 && after > 0) {
    return `${Math.max(-99.9, Math.round(1000 * (after / before - 1)) / 10)} %`;
  }
  // Rounding may give -0.
  return change === 0 ? "0 %" : `${change < 0 ? "" : "+"}${change} %`;
}

/**
 * A number before and after, and its relative change: `"3.78 → 3.10 (-18 %)"`. Of a number that was not above 0, or is more than
 * ten times what it was, the difference: `"0.00 → 0.31 (+0.31)"`.
 */
export function change(before: number, after: number, digits: number): string {
  const text = (value: number): string => Number.isFinite(value) ? value.toFixed(digits) : "–";
  const isShare = before > 0 && after >= 0 && after <= 10 * before, difference = after - before;
  const changed = isShare
    ? percent(before, after)
    : Number.isFinite(difference)
    ? `${difference < 0 ? "" : "+"}${difference.toFixed(digits)}`
    : "";
  return `${text(before)} → ${text(after)}${changed === "" ? "" : ` (${changed})`}`;
}

/** Floating-point operations, `"3.78 GFLOP"`. */
export function flopText(flops: number): string {
  return `${scaled(flops)}FLOP`;
}

/** Bytes, `"23 KiB"`, `"212 MiB"`, `"4.45 GiB"`. */
export function bytesText(bytes: number): string {
  if (0 < bytes && bytes < 2 ** 20) return `${Math.ceil(bytes / 2 ** 10)} KiB`;
  return bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(0)} MiB` : `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}

/** The cost of a step. Traffic is what kernels read and write, not what is allocated. */
export function costText({ launches, matmulFlops, bytes, exchanged }: Cost): string {
  const sent = exchanged === undefined ? "" : `, ${bytesText(exchanged)} exchanged`;
  return `${counted(launches, "launch")}, ${flopText(matmulFlops)}, ${bytesText(bytes)} of traffic${sent}`;
}

/** What a step takes on the device, and what it computes again for that. */
export function memoryText({ budget, bytes, bytesWithout, blocks, of, operations }: StepMemory): string {
  const taken = `${bytesText(bytes)} of ${bytesText(budget)}`;
  if (blocks === 0) return `${taken}, nothing is computed again`;
  return `${taken}, not ${bytesText(bytesWithout)}: the backward pass computes ${blocks} of ${
    counted(of, "block")
  } again, ${percent(1, operations)} operations`;
}

/** A change of the frozen set, and the cost of a step before and after. */
export function freezeText({ step, frozen, thawed, before, after }: Omit<FreezeEvent, "reasons">): string {
  const list = (verb: string, paths: readonly string[]): string[] =>
    paths.length === 0 ? [] : [
      `${verb} ${printable(paths.slice(0, 3).join(", "))}${
        paths.length > 3 ? ` and ${paths.length - 3} more` : ""
      }`,
    ];
  return `step ${step}: ${[...list("froze", frozen), ...list("thawed", thawed)].join("; ")}\n    a step: ${
    costText(before)
  } → ${after.launches === 0 ? "training ends" : costText(after)}`;
}

/** How a run ended, to follow its steps; empty when it took all steps and kept the last parameters. */
export function endingText(ending: Ending | null): string {
  if (ending === null) return "";
  const why = { steps: "", frozen: ", ended as all is frozen", stopped: ", ended early" }[ending.reason];
  return why +
    (ending.best === null || ending.best === ending.step
      ? ""
      : `, with the parameters of step ${ending.best}`);
}
