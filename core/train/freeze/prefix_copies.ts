/**
 * Copies rows between the values that a prefix keeps and the pages of a cache.
 *
 * @module
 */

import { copyRows } from "../../../kernels/copy_rows.ts";
import { sampleBytes } from "../../plan/prefix/cut.ts";
import type { Prefix } from "../../plan/types.ts";
import { createBuffer, destroyBuffer } from "../../runtime/buffers.ts";
import type { Gpu } from "../../runtime/device.ts";
import { bindKernel, type BoundKernel, dispatchAll } from "../../runtime/pipelines.ts";
import type { Recording } from "../../runtime/record.ts";

/** Largest size of a buffer, unless one sample needs more. Buffers are made as samples come. */
const PAGE = 2 ** 24;

/** How samples lie in the pages of a cache. */
export interface CacheLayout {
  /** Bytes of a sample. */
  readonly bytes: number;
  /** Samples that the cache has room for. */
  readonly room: number;
  /** Samples in a page. */
  readonly perPage: number;
}

/** The layout of a cache of at most so many bytes. */
export function layoutOf({ kept }: Prefix, most: number): CacheLayout {
  const bytes = sampleBytes(kept), room = Math.floor(most / bytes);
  return { bytes, room, perPage: Math.min(Math.max(1, Math.floor(PAGE / bytes)), room) };
}

/** What is copied. */
interface Copied {
  readonly recording: Recording;
  readonly prefix: Prefix;
  readonly layout: CacheLayout;
  readonly pages: readonly GPUBuffer[];
  /** Rows of the batch, and where their samples lie. */
  readonly rows: readonly { readonly row: number; readonly slot: number }[];
  /** Whether rows are copied from the pages, not to them. */
  readonly load: boolean;
}

/** Copies between values and pages. */
export interface PrefixCopier {
  /** Encodes the copies of a step. */
  encode(encoder: GPUCommandEncoder, copied: Copied): void;
  /** Frees what it holds. */
  clear(): void;
}

/** Rows of one kept value that lie in one page. */
interface Group {
  /** Its number among all pairs of a page and a value. */
  readonly index: number;
  readonly from: GPUBuffer;
  readonly to: GPUBuffer;
  readonly words: number;
  /** First words of each row in both buffers. */
  readonly places: readonly number[];
}

/** The rows of all groups, each at a place of its own. */
interface Table {
  readonly buffer: GPUBuffer;
  /** Words of a group: a multiple of what bindings begin at. */
  readonly stride: number;
  /** Kernels by recording, and by number and direction of their group: binding costs more than a launch. */
  readonly bound: WeakMap<Recording, Map<string, BoundKernel>>;
}

/** Bindings begin at a multiple of so many words. */
const ALIGNED = 64;

/**
 * Makes what copies. A launch copies all rows of a value that lie in one page: as commands, each row would wait for the one before.
 *
 * @param gpu The device
 * @returns The copier
 */
export function prefixCopier(gpu: Gpu): PrefixCopier {
  let table: Table | null = null;
  const { queue, limits: { maxStorageBufferBindingSize: most } } = gpu.device;

  function clear(): void {
    if (table !== null) destroyBuffer(table.buffer);
    table = null;
  }

  /** A table for so many groups of so many samples. */
  function tableFor(groups: number, samples: number): Table {
    const stride = ALIGNED * Math.ceil((2 + 2 * samples) / ALIGNED), bytes = 4 * stride * groups;
    if (table !== null && table.stride === stride && table.buffer.size >= bytes) return table;
    clear();
    const buffer = createBuffer(gpu, { label: "rows of a prefix", bytes });
    return table = { buffer, stride, bound: new WeakMap() };
  }

  /** Kernels that copy, with their rows in the table. */
  function kernelsOf(groups: readonly Group[], { recording, prefix, pages, load }: Copied): BoundKernel[] {
    const { buffer, stride, bound } = tableFor(pages.length * prefix.kept.length, prefix.samples);
    const words = new Uint32Array(buffer.size / 4),
      known = bound.get(recording) ?? new Map<string, BoundKernel>();
    bound.set(recording, known);
    const kernels = groups.map(({ index, from, to, words: size, places }) => {
      const rows = places.length / 2, kernel = copyRows({ words: size, rows }), key = `${index} ${load}`;
      words.set([size, rows, ...places], index * stride);
      const resources = [
        { buffer: from },
        { buffer, offset: 4 * index * stride, size: 4 * stride },
        { buffer: to },
      ];
      if (!known.has(key)) known.set(key, bindKernel(gpu, kernel, resources));
      return { ...known.get(key)!, grid: kernel.grid };
    });
    queue.writeBuffer(buffer, 0, words);
    return kernels;
  }

  return {
    encode(encoder, copied) {
      const groups = groupsOf(copied);
      if (groups.some(({ from, to }) => Math.max(from.size, to.size) > most)) {
        return copyEach(encoder, groups);
      }
      if (groups.length === 0) return;
      const pass = encoder.beginComputePass();
      dispatchAll(pass, kernelsOf(groups, copied));
      pass.end();
    },
    clear,
  };
}

/** Rows by value and page. */
function groupsOf({ recording, prefix, layout: { perPage, bytes }, pages, rows, load }: Copied): Group[] {
  const byPage = Map.groupBy(rows, ({ slot }) => Math.floor(slot / perPage)), groups: Group[] = [];
  for (const [at, own] of byPage) {
    let first = 0;
    prefix.kept.forEach((kept, i) => {
      const page = pages[at], value = recording.kept[i], words = kept.bytes / 4;
      const places = own.flatMap(({ row, slot }) => {
        const both = [((slot % perPage) * bytes + first) / 4, row * words];
        return load ? both : both.reverse();
      });
      const index = at * prefix.kept.length + i;
      groups.push({ index, from: load ? page : value, to: load ? value : page, words, places });
      first += kept.bytes;
    });
  }
  return groups;
}

/** Copies rows by commands: of buffers that are larger than a binding. */
function copyEach(encoder: GPUCommandEncoder, groups: readonly Group[]): void {
  for (const { from, to, words, places } of groups) {
    for (let i = 0; i < places.length; i += 2) {
      encoder.copyBufferToBuffer(from, 4 * places[i], to, 4 * places[i + 1], 4 * words);
    }
  }
}
