/**
 * Samples in an order that follows from a seed, as many at a time as a buffer holds.
 *
 * @module
 */

import type { Pair } from "../../../kernels/random.ts";
import { fitSamples, type Long } from "./fit.ts";
import { permutation } from "./permutation.ts";
import type { Sample } from "./sample.ts";
import type { SampleSource } from "./sample_source.ts";

/** Blocks that are made at a time. */
const AHEAD = 8;

/** Groups of samples, each as large as a buffer. */
export interface SampleGroups {
  /** Whether one group is all there is. */
  readonly single: boolean;
  /** Groups of an epoch. */
  count(epoch: number): number;
  /** Makes the samples of a group, in the order of their blocks. Those of the last one that was asked for stay in memory. */
  read(epoch: number, group: number): Promise<readonly Sample[]>;
}

/**
 * Divides the blocks of a source into groups, in another order in each epoch.
 *
 * @param source The samples
 * @param options `key`: that of the seed; `buffer`: bytes of a group, about; `length`, `long`: what samples are made to fit
 * @returns The groups
 */
export function sampleGroups(
  source: SampleSource,
  { key, buffer, length, long }: {
    readonly key: Pair;
    readonly buffer: number;
    readonly length: number;
    readonly long: Long;
  },
): SampleGroups {
  const { blocks } = source, single = blocks.reduce((n, { bytes }) => n + bytes, 0) <= buffer;
  const everything = [Array.from(blocks, (_, i) => i)];
  let order = { epoch: -1, groups: everything };
  function groupsOf(epoch: number): readonly (readonly number[])[] {
    if (single) return everything;
    if (order.epoch !== epoch) order = { epoch, groups: divided(permutation(blocks.length, { key, epoch })) };
    return order.groups;
  }
  function divided(indices: Uint32Array): number[][] {
    const groups: number[][] = [];
    let bytes = Infinity;
    for (const index of indices) {
      if (bytes >= buffer) {
        groups.push([]);
        bytes = 0;
      }
      groups.at(-1)!.push(index);
      bytes += blocks[index].bytes;
    }
    return groups;
  }
  async function make(indices: readonly number[]): Promise<readonly Sample[]> {
    const samples: Sample[] = [], reading: Promise<readonly Sample[]>[] = [];
    for (let i = 0; i < indices.length; i++) {
      // Several are made at a time.
      while (reading.length < AHEAD && i + reading.length < indices.length) {
        reading.push(begun(source.read(indices[i + reading.length])));
      }
      for (const sample of fitSamples(await reading.shift()!, { length, long })) samples.push(sample);
    }
    return samples;
  }
  let kept: { readonly name: string; readonly samples: Promise<readonly Sample[]> } | null = null;
  return {
    single,
    count: (epoch) => groupsOf(epoch).length,
    read(epoch, group) {
      const name = single ? "all" : `${epoch}/${group}`;
      if (kept?.name !== name) kept = { name, samples: make(groupsOf(epoch)[group]) };
      return kept.samples;
    },
  };
}

/** A promise that is awaited later: what goes wrong is told then. */
function begun<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}
