/**
 * Several processes that train one model: ranks.
 *
 * @module
 */

/** This process among those that train together. A narrow interface, so that another engine than MPI is one file. */
export interface Ranks {
  /** Number of this process, from 0. */
  readonly rank: number;
  /** How many there are. */
  readonly size: number;
  /** This process among those on its host. */
  readonly local: { readonly rank: number; readonly size: number };
  /** What carries the data, for people. */
  readonly engine: string;
  /**
   * Adds up the values of all ranks, in place. All ranks get the same bits.
   *
   * @param data As many values on each rank
   */
  sum(data: Float32Array): Promise<void>;
  /**
   * Sends a part to each rank, and receives one of each.
   *
   * @param data Parts for all ranks, in their order, of equal size everywhere
   * @returns Parts of all ranks, in their order
   */
  allToAll(data: Uint8Array): Promise<Uint8Array>;
  /**
   * Brings the bytes of all ranks to all ranks.
   *
   * @param mine Bytes of this rank; each may have another number of them
   * @returns Those of all ranks, in their order, one after the other
   */
  gather(mine: Uint8Array): Promise<Uint8Array>;
  /**
   * Copies the bytes of one rank to all others, in place.
   *
   * @param data As many bytes on each rank
   * @param root The rank that has them; 0 when absent
   */
  broadcast(data: Uint8Array, root?: number): Promise<void>;
  /**
   * Ends all ranks at once.
   *
   * @param code Exit status, not 0
   */
  abort(code: number): never;
  /** Leaves the others in peace: waits until all ranks have come so far. A second call does nothing. */
  close(): Promise<void>;
}
