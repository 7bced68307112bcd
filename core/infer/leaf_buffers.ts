/**
 * Buffers of leaves that several plans share.
 *
 * @module
 */

import { bytesOf } from "../plan/storage.ts";
import { createBuffer, destroyBuffer, writeValues } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { submit } from "../runtime/pipelines.ts";
import type { HostData } from "../sources.ts";
import { sizeOf } from "../spec.ts";
import type { Tensor } from "../tensor.ts";
import type { Path } from "../tree.ts";

/** Buffers by path and size. Each is created on first use, filled with zeros. */
export interface LeafBuffers {
  /** The buffer of a leaf. */
  of(leaf: Tensor): GPUBuffer;
  /** Writes all values of a leaf. */
  write(path: Path, values: HostData): void;
  /** Makes leaves [B, S, ...] larger along their second axis; what they hold stays, at the same places. */
  grow(leaves: readonly Tensor[], size: number): void;
  /** Frees all buffers. */
  destroy(): void;
}

/**
 * Makes buffers of leaves, none at first.
 *
 * @param gpu The device
 * @returns The buffers
 */
export function leafBuffers(gpu: Gpu): LeafBuffers {
  const buffers = new Map<string, GPUBuffer>();
  const bufferFor = (label: Path, bytes: number): GPUBuffer => {
    const key = `${label} ${bytes}`;
    if (!buffers.has(key)) buffers.set(key, createBuffer(gpu, { label, bytes }));
    return buffers.get(key)!;
  };
  const of = (leaf: Tensor): GPUBuffer => bufferFor(pathOf(leaf), bytesOf(leaf));
  return {
    of,
    write: (path, values) => writeValues(gpu, bufferFor(path, bytesOf({ shape: [values.length] })), values),
    grow(leaves, size) {
      submit(gpu, (encoder) => {
        for (const leaf of leaves) {
          const [batch, rows] = leaf.shape, bytes = 4 * sizeOf(leaf.shape) / batch;
          const into = bufferFor(pathOf(leaf), bytesOf({ ...leaf, shape: leaf.shape.with(1, size) }));
          for (let b = 0; b < batch; b++) {
            encoder.copyBufferToBuffer(of(leaf), b * bytes, into, b * bytes / rows * size, bytes);
          }
        }
      });
      for (const leaf of leaves) {
        destroyBuffer(of(leaf));
        buffers.delete(`${pathOf(leaf)} ${bytesOf(leaf)}`);
      }
    },
    destroy() {
      buffers.forEach(destroyBuffer);
      buffers.clear();
    },
  };
}

/**
 * The path of a leaf.
 *
 * @param leaf The leaf
 * @returns Its dotted name
 */
export function pathOf({ attrs }: Tensor): Path {
  return (attrs as { readonly path: Path }).path;
}
