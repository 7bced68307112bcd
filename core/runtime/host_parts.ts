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

/**
 * Copies buffers to where the host reads them, all at once; afterwards they may change. Waits until they are copied.
 *
 * @param gpu The device
 * @param sources What to read, in order
 * @returns The bytes that they had; null when there is no room for them
 * @throws {DeviceLostError} When the device is gone or closed
 */
export async function copyParts(gpu: Gpu, sources: readonly Source[]): Promise<HostParts | null> {
  const groups = groupsOf(sources), targets: Staging[] = [];
  const free = (): void => targets.forEach(({ buffer }) => destroyBuffer(buffer));
  try {
    for (const { bytes } of groups) targets.push(newStaging(gpu, bytes, { host: true }));
    await checkAllocations(gpu);
    groups.forEach((group, i) => stage(gpu, { ...group, buffer: targets[i].buffer }));
    const ranges: ArrayBuffer[] = [];
    for (const [i, { bytes }] of groups.entries()) ranges.push(await mapped(gpu, targets[i], bytes));
    const parts = partsOf(gpu, held(groups, { ranges, targets }));
    return { ...parts, close: () => parts.close().finally(free) };
  } catch (error) {
    free();
    if (error instanceof OutOfMemoryError) return null;
    throw error;
  }
}

/** What was copied. Each buffer is freed once it was taken. */
async function* held(
  groups: readonly Group<Piece>[],
  { ranges, targets }: { readonly ranges: readonly ArrayBuffer[]; readonly targets: readonly Staging[] },
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  for (const [i, group] of groups.entries()) {
    yield* viewsOf(ranges[i], group);
    destroyBuffer(targets[i].buffer);
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
