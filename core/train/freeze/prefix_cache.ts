/**
 * Caches the values of a frozen prefix by sample, from one epoch to the next.
 *
 * A sample is identified by the bytes of its rows in the batch entries that the prefix reads. The first samples to come
 * fill the cache, and none is evicted: an epoch that does not fit has the same samples cached each time.
 *
 * @module
 */

import { createBuffer, destroyBuffer } from "../../runtime/buffers.ts";
import type { Gpu } from "../../runtime/device.ts";
import type { Prefix } from "../../plan/types.ts";
import { sampleBytes } from "../../plan/prefix/cut.ts";
import { samePrefix } from "../../plan/prefix/same_prefix.ts";
import type { Plan } from "../../plan/types.ts";
import type { PrefixCopies } from "../../runtime/replay.ts";
import type { Recording } from "../../runtime/record.ts";
import { hostValues } from "../../sources.ts";
import type { Spec } from "../../spec.ts";
import type { Leaves, Path } from "../../tree.ts";
import { PREFIX_BYTES } from "../options.ts";
import type { CachedPrefix } from "../types.ts";
import { type CacheLayout, layoutOf, prefixCopier } from "./prefix_copies.ts";

/** Why a cache is empty before the first step. */
const EMPTY = "no step was taken that could fill it";

/** A planned step, as the cache sees it. */
export interface CacheableStep {
  readonly plan: Plan;
  /** Tensors that the step overwrites, by path. */
  readonly replaced: ReadonlyMap<Path, Spec>;
}

/** Caches values of a prefix. */
export interface PrefixCache {
  /** Frees values that the next step cannot use: of another prefix, of another run, or of parameters that it changes. */
  invalidate(next: CacheableStep, owner: object): void;
  /**
   * The copies from or to the cache that a step makes; undefined when its plan has no prefix.
   *
   * @param step Its recording and its batch, after `invalidate` with its plan
   */
  copiesOf(step: { readonly recording: Recording; readonly batch: Leaves }): PrefixCopies | undefined;
  /** What the cache holds. */
  state(): CachedPrefix;
  /** Frees all values. */
  clear(): void;
}

/**
 * Makes a cache.
 *
 * @param gpu The device
 * @param options Its size; `true` for 1 GiB
 * @returns The cache, empty
 */
export function prefixCache(gpu: Gpu, options: true | { readonly bytes: number }): PrefixCache {
  const most = options === true ? PREFIX_BYTES : options.bytes;
  const slots = new Map<string, number>(), pages: GPUBuffer[] = [], copier = prefixCopier(gpu);
  let known: { readonly plan: Plan; readonly prefix: Prefix; readonly owner: object } | null = null;
  let reason: string | null = EMPTY;

  function clear(): void {
    for (const page of pages.splice(0)) destroyBuffer(page);
    copier.clear();
    slots.clear();
    known = null;
    reason = EMPTY;
  }

  function invalidate({ plan, replaced }: CacheableStep, owner: object): void {
    const { prefix } = plan;
    const stale = known !== null &&
      (known.owner !== owner || known.prefix.reads.some((path) => replaced.has(path)) ||
        (typeof prefix === "object" && !samePrefix(known.plan, plan)));
    if (stale) clear();
    // A plan without prefix options, as with probes, leaves the cache as it is.
    if (prefix === undefined) return;
    reason = typeof prefix === "string" ? prefix : null;
    if (typeof prefix === "string") return;
    if (layoutOf(prefix, most).room === 0) {
      clear();
      reason = `"cachePrefix" has ${most} bytes: a sample takes ${sampleBytes(prefix.kept)}`;
    } else known ??= { plan, prefix, owner };
  }

  /** Gives a new sample a slot, and makes its page when it is the first there; null when the cache is full. */
  function addSample(key: string, { room, perPage, bytes }: CacheLayout): number | null {
    if (slots.has(key) || slots.size === room) return null;
    const slot = slots.size;
    slots.set(key, slot);
    if (Math.floor(slot / perPage) === pages.length) {
      const size = Math.min(perPage, room - slot) * bytes;
      const mend = 'lower the bytes of "cachePrefix", or use a larger device';
      pages.push(createBuffer(gpu, { label: "values of a prefix", bytes: size, mend }));
    }
    return slot;
  }

  return {
    invalidate,
    copiesOf({ recording, batch }) {
      const { prefix } = recording.plan;
      if (typeof prefix !== "object" || known === null) return undefined;
      const layout = layoutOf(prefix, most), keys = keysOf(prefix, batch);
      const skip = keys.every((key) => slots.has(key));
      const rows = keys.flatMap((key, row) => {
        const slot = skip ? slots.get(key)! : addSample(key, layout);
        return slot === null ? [] : [{ row, slot }];
      });
      return {
        skip,
        encode: (encoder) => copier.encode(encoder, { recording, prefix, layout, pages, rows, load: skip }),
      };
    },
    clear,
    state: () => ({
      samples: slots.size,
      room: known === null ? 0 : layoutOf(known.prefix, most).room,
      bytes: pages.reduce((n, page) => n + page.size, 0),
      reason,
    }),
  };
}

/** The bytes of the rows of each sample, as text with two bytes a character. */
function keysOf({ samples, reads }: Prefix, batch: Leaves): string[] {
  const entries = reads.flatMap((path: Path) => {
    const tensor = path.startsWith("batch.") ? batch.get(path.slice("batch.".length)) : undefined;
    if (tensor === undefined) return [];
    const { buffer, byteOffset, byteLength } = hostValues(tensor, path);
    // Elements have four bytes.
    return [new Uint16Array(buffer, byteOffset, byteLength / 2)];
  });
  return Array.from({ length: samples }, (_, row) => {
    let key = "";
    for (const words of entries) {
      const size = words.length / samples;
      for (let at = row * size; at < (row + 1) * size; at += CHUNK) {
        // Six times as fast as a spread, which asks an iterator for each word.
        key += String.fromCharCode.apply(null, part(words, at, Math.min(at + CHUNK, (row + 1) * size)));
      }
    }
    return key;
  });
}

/** Some words, as arguments. */
const part = (words: Uint16Array, from: number, to: number): number[] =>
  words.subarray(from, to) as unknown as number[];

/** Words that become text in one call: arguments need stack. */
const CHUNK = 4096;
