/**
 * Bytes of buffers in memory that the device and the host share: written to a file from there, they are copied nowhere else.
 *
 * @module
 */

import { OutOfMemoryError } from "../errors.ts";
import { checkAllocations, destroyBuffer } from "./buffers.ts";
import type { Gpu } from "./device.ts";
import {
  type Group,
  mapped,
  mappingOf,
  newStaging,
  type Piece,
  piecesOf,
  type Source,
  stage,
  STAGING,
  type Staging,
  stagingOf,
  throwLoss,
  together,
} from "./readback.ts";

/** Bytes of buffers, in order. */
export interface HostParts {
  /**
   * The next bytes, of one buffer; a view that ends when the next ones are asked for. Null at the end.
   *
   * @throws {DeviceLostError} When the device is gone or closed, and the bytes with it
   */
  next(): Promise<Uint8Array<ArrayBuffer> | null>;
  /**
   * Sees whether the view that was given last is still whole: a device that is closed may take its memory with it.
   *
   * @throws {DeviceLostError} When it is not
   */
  check(): Promise<void>;
  /** Frees what is left of them. */
  close(): Promise<void>;
}

/**
 * Reads buffers part by part as they are asked for, through one staging buffer. Small ones share a part.
 *
 * @param gpu The device
 * @param sources What to read, in order; it must not change before it was
 * @returns Its bytes
 */
export function streamParts(gpu: Gpu, sources: readonly Source[]): HostParts {
  async function* parts(): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
    const groups = groupsOf(sources), size = Math.max(0, ...groups.map(({ bytes }) => bytes));
    if (size === 0) return;
    const target = { buffer: stagingOf(gpu, size), busy: true, awaited: false };
    try {
      for (const group of groups) {
        gpu.check();
        stage(gpu, { ...group, buffer: target.buffer });
        yield* viewsOf(await mapped(gpu, target, group.bytes), group);
        target.buffer.unmap();
      }
    } finally {
      destroyBuffer(target.buffer);
    }
  }
  return partsOf(gpu, parts());
}

/** Memory that the device and the host share. It serves one copy at a time. */
export interface HostMemory {
  /**
   * Copies buffers to it, all at once; afterwards they may change. Waits until they are copied.
   *
   * @param sources What to read, in order
   * @param options `keeps`: whether the memory is kept for the next copy. To take it anew is slow, 0.3 s for a GB with Dawn on an
   * H200; copying is not, 0.02 s
   * @returns The bytes that they had; null when there is no room for them
   * @throws {DeviceLostError} When the device is gone or closed
   */
  copy(sources: readonly Source[], options: { readonly keeps: boolean }): Promise<HostParts | null>;
  /** Frees what is kept of it. */
  free(): void;
}

/**
 * Makes memory for copies, which is taken when it is needed.
 *
 * @param gpu The device
 * @returns The memory
 */
export function hostMemory(gpu: Gpu): HostMemory {
  const targets: Staging[] = [];
  let areMapped = false;
  const free = (): void => {
    areMapped = false;
    for (const { buffer } of targets.splice(0)) destroyBuffer(buffer);
  };
  return {
    free,
    async copy(sources, { keeps }) {
      const groups = groupsOf(sources);
      try {
        gpu.check();
        if (areMapped) { for (const { buffer } of targets) buffer.unmap(); }
        areMapped = false;
        fit(gpu, { groups, targets });
        await checkAllocations(gpu);
        groups.forEach((group, i) => stage(gpu, { ...group, buffer: targets[i].buffer }));
        const mappings = groups.map(({ bytes }, i) => targets[i].buffer.mapAsync(1, 0, bytes));
        await mappingOf(gpu, Promise.all(mappings));
        areMapped = true;
      } catch (error) {
        free();
        if (error instanceof OutOfMemoryError) return null;
        throw error;
      }
      const parts = partsOf(gpu, held(groups, targets));
      return keeps ? parts : { ...parts, close: () => parts.close().finally(free) };
    },
  };
}

/** Makes a buffer for each group where the one that is there is too small, and frees those that no group needs. */
function fit(
  gpu: Gpu,
  { groups, targets }: { readonly groups: readonly Group<Piece>[]; readonly targets: Staging[] },
): void {
  for (const [i, { bytes }] of groups.entries()) {
    const old = targets.at(i);
    if (old !== undefined && old.buffer.size >= bytes) continue;
    targets[i] = newStaging(gpu, bytes, { host: true });
    if (old !== undefined) destroyBuffer(old.buffer);
  }
  for (const { buffer } of targets.splice(groups.length)) destroyBuffer(buffer);
}

/** What was copied. Deno's own implementation copies a range that is asked for, which the device need not wait for. */
async function* held(
  groups: readonly Group<Piece>[],
  targets: readonly Staging[],
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  for (const [i, group] of groups.entries()) {
    yield* viewsOf(targets[i].buffer.getMappedRange(0, group.bytes), group);
  }
}

function groupsOf(sources: readonly Source[]): Group<Piece>[] {
  return together(sources.flatMap((source) => source.bytes === 0 ? [] : piecesOf(source, STAGING)));
}

const viewsOf = (range: ArrayBuffer, { part, offsets }: Group<Piece>): Uint8Array<ArrayBuffer>[] =>
  part.map(({ bytes }, i) => new Uint8Array(range, offsets[i], bytes));

function partsOf(gpu: Gpu, parts: AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined>): HostParts {
  let view: Uint8Array<ArrayBuffer> | null = null, bytes = 0;
  const check = async (): Promise<void> => {
    if (view !== null && view.length < bytes) await throwLoss(gpu, new Error("mapped memory is gone"));
  };
  return {
    async next() {
      try {
        view = (await parts.next()).value ?? null;
      } catch (error) {
        await throwLoss(gpu, error);
      }
      bytes = view?.length ?? 0;
      return view;
    },
    check,
    async close() {
      await parts.return();
    },
  };
}
