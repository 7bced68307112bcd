/**
 * A lock for asynchronous work.
 *
 * @module
 */

/** Runs one piece of work at a time. */
export interface Lock {
  /** Runs work at once when nothing else runs, and otherwise after the work that came before. */
  exclusive<T>(work: () => T | Promise<T>): Promise<T>;
}

/**
 * Makes a lock. Work that fails gives it back.
 *
 * @returns The lock, free
 */
export function lock(): Lock {
  /** Settles when all work so far is over; null when the lock is free. */
  let tail: Promise<unknown> | null = null;
  return {
    exclusive<T>(work: () => T | Promise<T>): Promise<T> {
      // Work begins at once when the lock is free. Node 22 has no Promise.try.
      const done = tail === null ? new Promise<T>((resolve) => resolve(work())) : tail.then(work);
      const over: Promise<unknown> = done.catch(() => {}).then(() => {
        if (tail === over) tail = null;
      });
      tail = over;
      return done;
    },
  };
}
