/**
 * SIGINT and SIGTERM: a run finishes its step, saves and says how to go on.
 *
 * @module
 */

import { FirnError } from "@firn/train";
import { printError } from "./print.ts";

/** What a process exits with after a signal: 128 and its number. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGBREAK: 149 } as const;

type SignalName = keyof typeof EXIT_CODES;

/** A signal stopped a run, which can go on. */
export class InterruptedError extends FirnError {
  override name = "InterruptedError";
  /** What the process exits with. */
  readonly code: number;

  /** Names the signal, and how to go on. */
  constructor(by: SignalName, mend: string) {
    super(`stopped by ${by}; ${mend}`);
    this.code = EXIT_CODES[by];
  }
}

/** Signals are caught until it is disposed of. */
export interface SignalCatcher extends Disposable {
  /** The signal that came; null when none did. */
  caught(): SignalName | null;
}

/**
 * The signals that ask a program to end: Windows has no SIGTERM, and SIGBREAK for Ctrl-Break.
 *
 * @param os The system
 * @returns Their names
 */
export function endSignals(os: string = Deno.build.os): readonly SignalName[] {
  return os === "windows" ? ["SIGINT", "SIGBREAK"] : ["SIGINT", "SIGTERM"];
}

/**
 * Calls a function at each signal that asks the program to end, until it is disposed of.
 *
 * @param stop The function
 * @returns Ends that
 */
export function onEndSignal(stop: () => void): Disposable {
  const names = endSignals();
  for (const name of names) Deno.addSignalListener(name, stop);
  return { [Symbol.dispose]: () => names.forEach((name) => Deno.removeSignalListener(name, stop)) };
}

/**
 * Catches SIGINT and SIGTERM: the first is for the run to notice, the second exits at once.
 *
 * @param name The command, before what is printed
 * @param options `says`: whether it is said at once that the step is finished; of ranks, whose launcher also sends a signal where one
 * of them fails, only what comes of it is
 * @returns Which signal came
 */
export function catchSignals(name: string, { says }: { readonly says: boolean }): SignalCatcher {
  let first: SignalName | null = null;
  const handlers = endSignals().map((by) => {
    const handler = (): void => {
      if (first !== null) Deno.exit(EXIT_CODES[by]);
      first = by;
      if (says) printError(`\n${name}: ${by}: finishes the step and saves; a second signal exits at once`);
    };
    Deno.addSignalListener(by, handler);
    return [by, handler] as const;
  });
  return {
    caught: () => first,
    [Symbol.dispose]: () => handlers.forEach(([by, handler]) => Deno.removeSignalListener(by, handler)),
  };
}
