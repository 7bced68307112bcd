/**
 * Times the stages of an exchange, which overlap.
 *
 * @module
 */

import type { ExchangeTime } from "../parameter_exchange.ts";

/** Times one exchange. */
export interface ExchangeClock {
  /** Runs work that waits for values of the device. One at a time. */
  read<T>(work: () => Promise<T>): Promise<T>;
  /** Runs work in which the ranks add up. They do it one after the other, in the order in which it is asked for. */
  sum<T>(work: () => Promise<T>): Promise<T>;
  /** Runs work that writes sums back. */
  write(work: () => void): void;
  /** What it has measured: milliseconds after the last read are waited for. */
  time(): ExchangeTime;
}

/** Makes a clock. */
export function exchangeClock(): ExchangeClock {
  let ms = 0, read = 0, sum = 0, write = 0, readAt = 0, summedAt = 0, arrivedAt = 0;
  return {
    async read(work) {
      const begun = readAt === 0 ? Infinity : performance.now(), result = await work();
      readAt = performance.now();
      // Before the first value the device computes what is exchanged.
      read += Math.max(0, readAt - begun);
      return result;
    },
    async sum(work) {
      const begun = performance.now(), result = await work(), now = performance.now();
      sum += now - Math.max(begun, summedAt);
      ms += now - Math.max(begun, arrivedAt);
      summedAt = arrivedAt = now;
      return result;
    },
    write(work) {
      const begun = performance.now();
      work();
      arrivedAt = performance.now();
      write += arrivedAt - begun;
      ms += arrivedAt - begun;
    },
    time: () => ({
      ms,
      waitedMs: Math.min(ms, Math.max(0, arrivedAt - readAt)),
      stages: { read, sum, write },
    }),
  };
}
