/**
 * Where a page asks for something between two steps of a run.
 *
 * @module
 */

import type { TrainingState } from "@firn/train";
import type { Session } from "./session.ts";

/** Work on a state that no step consumes meanwhile. */
export type Work = (state: TrainingState<object>, session: Session) => Promise<void>;

/** What the page asks, and what the run asks after each step. */
export interface Desk {
  /** Whether no further step may begin. */
  readonly paused: boolean;
  /** Whether the run is to end here. */
  readonly stopped: boolean;
  /** Lets no further step begin. */
  pause(): void;
  /** Lets them begin. */
  resume(): void;
  /** Ends the run after the step that is taken. */
  stop(): void;
  /** Has work done before the next step. */
  ask(work: Work): void;
  /** Work that was asked for; null when a step may begin, or the run ends. Waits while it is paused. */
  next(): Promise<Work | null>;
}

/** Opens a {@link Desk}. */
export function openDesk(): Desk {
  const asked: Work[] = [];
  let paused = false, stopped = false, wake = (): void => {};
  return {
    get paused() {
      return paused;
    },
    get stopped() {
      return stopped;
    },
    pause() {
      paused = true;
    },
    resume() {
      paused = false;
      wake();
    },
    stop() {
      stopped = true;
      wake();
    },
    ask(work) {
      asked.push(work);
      wake();
    },
    async next() {
      while (asked.length === 0 && paused && !stopped) await new Promise<void>((resolve) => wake = resolve);
      return stopped ? null : asked.shift() ?? null;
    },
  };
}
