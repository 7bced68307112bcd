/**
 * Buffers of a batch on the device.
 *
 * @module
 */

import { bytesOf } from "../../plan/storage.ts";
import { createBuffer, destroyBuffer, writeValues } from "../../runtime/buffers.ts";
import type { Gpu } from "../../runtime/device.ts";
import { type HostData, hostValues } from "../../sources.ts";
import type { Spec } from "../../spec.ts";
import type { Leaves, Path } from "../../tree.ts";

/** The buffers of the last batch. Batches of the same shapes share them. */
export interface BatchBuffers {
  /** Frees buffers of other sizes than a batch needs, and makes missing ones. */
  resize(batch: ReadonlyMap<Path, Spec>): void;
  /** Uploads the values of a batch. */
  write(values: ReadonlyMap<Path, HostData>): void;
  /** The buffer of an entry. */
  get(path: Path): GPUBuffer;
  /** Frees all. */
  free(): void;
}

/** Makes the buffers, none at first. */
export function batchBuffers(gpu: Gpu): BatchBuffers {
  const buffers = new Map<Path, GPUBuffer>();
  return {
    resize(batch) {
      for (const [path, buffer] of buffers) {
        const spec = batch.get(path);
        if (spec !== undefined && bytesOf(spec) === buffer.size) continue;
        destroyBuffer(buffer);
        buffers.delete(path);
      }
      for (const [path, spec] of batch) {
        if (buffers.has(path)) continue;
        buffers.set(path, createBuffer(gpu, { label: `batch.${path}`, bytes: bytesOf(spec) }));
      }
    },
    write(values) {
      for (const [path, data] of values) writeValues(gpu, buffers.get(path)!, data);
    },
    get: (path) => buffers.get(path)!,
    free() {
      for (const buffer of buffers.values()) destroyBuffer(buffer);
      buffers.clear();
    },
  };
}

/**
 * The values of a batch.
 *
 * @param batch Its entries
 * @returns Their values
 * @throws {InputError} When one is not a tensor of host values
 */
export function batchValues(batch: Leaves): Map<Path, HostData> {
  return new Map([...batch].map(([path, tensor]) => [path, hostValues(tensor, `batch.${path}`)]));
}
