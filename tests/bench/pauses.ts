/**
 * Pauses of a process that takes steps: while it collects garbage, the device runs out of work, and other ranks wait.
 *
 * @module
 */

import { median } from "../../core/report/numbers.ts";

/** A step that was taken. */
export interface Called {
  /** Milliseconds until its work was submitted; with an exchange, until that was over. */
  readonly ms: number;
  /** Those of its exchange, as this rank saw it; 0 where there was none. */
  readonly exchangeMs: number;
}

/** A call so many times as long as the median is a pause. */
const LONG = 3;
/** Most exchanges that are told one by one. */
const MOST = 9;

/**
 * What steps cost the processor, in words: a rank says what held it up, and the others what they waited for.
 *
 * @param calls The steps, in order
 * @returns Medians of steps without an exchange and with one, pauses with their step from 1, and exchanges, in milliseconds
 */
export function pausesIn(calls: readonly Called[]): string {
  const isAlone = ({ exchangeMs }: Called): boolean => exchangeMs === 0,
    exchanges = calls.filter((call) => !isAlone(call)).map(({ exchangeMs }) => exchangeMs);
  const alone = medianOf(calls.filter(isAlone)), together = medianOf(calls.filter((call) => !isAlone(call)));
  const pauses = calls.flatMap((call, i) =>
    call.ms > LONG * (isAlone(call) ? alone : together) ? [`${call.ms.toFixed(0)} ms at ${i + 1}`] : []
  );
  const shown = exchanges.length > MOST ? [Math.min(...exchanges), Math.max(...exchanges)] : exchanges;
  return [
    `${calls.length} steps`,
    ...alone > 0 ? [`submitted in ${alone.toFixed(1)} ms`] : [],
    ...together > 0 ? [`with an exchange over in ${together.toFixed(1)} ms`] : [],
    pauses.length === 0 ? "no pause" : `pauses: ${pauses.join(", ")}`,
    ...shown.length === 0
      ? []
      : [`exchanges: ${shown.map((ms) => ms.toFixed(0)).join(exchanges.length > MOST ? " to " : ", ")} ms`],
  ].join("; ");
}

/** The median of their milliseconds; 0 of none. */
function medianOf(calls: readonly Called[]): number {
  return calls.length === 0 ? 0 : median(calls.map(({ ms }) => ms));
}
