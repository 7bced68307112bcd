/**
 * Caches the values of a frozen prefix by sample, from one epoch to the next.
 *
 * A sample is identified by the bytes of its rows in the batch entries that the prefix reads. The first samples to come
 * fill the cache, and none is evicted: an epoch that does not fit has the same samples cached each time.
 *
 * @module
 */

import { createBuffer, type Gpu } from "../../runtime/device.ts";
import type { Prefix } from "../../plan/types.ts";
import { sampleBytes } from "../../plan/prefix/cut.ts";
import { samePrefix } from "../../plan/prefix/same_prefix.ts";
import type { Plan } from "../../plan/types.ts";
import type { PrefixCopies, Recording } from "../../runtime/record.ts";
import { hostValues, type Spec } from "../../tensor.ts";
import type { Leaves, Path } from "../../tree.ts";
import type { CachedPrefix } from "../types.ts";

/** Largest size of a buffer, unless one sample needs more. Buffers are made as samples come. */
const PAGE = 2 ** 24;
/** Default size of the cache. */
const BYTES = 2 ** 30;
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
  const most = options === true ? BYTES : options.bytes;
  const places = new Map<string, number>();
  let pages: GPUBuffer[] = [];
  let known: { readonly plan: Plan; readonly prefix: Prefix; readonly owner: object } | null = null;
  let reason: string | null = EMPTY;

  function clear(): void {
    for (const page of pages) page.destroy();
    pages = [];
    places.clear();
    known = null;
    reason = EMPTY;
  }

  const roomFor = ({ kept }: Prefix): number => Math.floor(most / sampleBytes(kept));
  const perPage = (prefix: Prefix): number => {
    const count = Math.max(1, Math.floor(PAGE / sampleBytes(prefix.kept)));
    return Math.min(count, roomFor(prefix));
  };

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
    if (roomFor(prefix) === 0) {
      clear();
      reason = `"cachePrefix" has ${most} bytes: a sample takes ${sampleBytes(prefix.kept)}`;
    } else known ??= { plan, prefix, owner };
  }

  function copiesOf(
    { recording, batch }: { readonly recording: Recording; readonly batch: Leaves },
  ): PrefixCopies | undefined {
    const { prefix } = recording.plan;
    if (typeof prefix !== "object" || known === null) return undefined;
    const keys = keysOf(prefix, batch);
    const skip = keys.every((key) => places.has(key));
    const rows = keys.flatMap((key, row) => {
      if (skip) return [{ row, place: places.get(key)! }];
      if (places.has(key) || places.size === roomFor(prefix)) return [];
      const place = places.size, page = Math.floor(place / perPage(prefix));
      places.set(key, place);
      if (page === pages.length) {
        const count = Math.min(perPage(prefix), roomFor(prefix) - place);
        pages.push(
          createBuffer(gpu, { label: "values of a prefix", bytes: count * sampleBytes(prefix.kept) }),
        );
      }
      return [{ row, place }];
    });
    return {
      skip,
      encode(encoder) {
        for (const { row, place } of rows) {
          const page = pages[Math.floor(place / perPage(prefix))];
          let at = (place % perPage(prefix)) * sampleBytes(prefix.kept);
          prefix.kept.forEach(({ bytes }, i) => {
            const value = recording.kept[i];
            if (skip) encoder.copyBufferToBuffer(page, at, value, row * bytes, bytes);
            else encoder.copyBufferToBuffer(value, row * bytes, page, at, bytes);
            at += bytes;
          });
        }
      },
    };
  }

  return {
    invalidate,
    copiesOf,
    clear,
    state: () => ({
      samples: places.size,
      room: known === null ? 0 : roomFor(known.prefix),
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
        key += String.fromCharCode(...words.subarray(at, Math.min(at + CHUNK, (row + 1) * size)));
      }
    }
    return key;
  });
}

/** Words that become text in one call: arguments need stack. */
const CHUNK = 4096;
