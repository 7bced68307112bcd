/**
 * Memory that native code works in, of which a program needs to see the first bytes only.
 *
 * @module
 */

/**
 * Memory of the host by its first bytes. V8 counts the bytes of each view of what a driver has mapped, and collects garbage after
 * 64 MB of them: with views of all, each exchange of a model would pause for that.
 */
export interface HostMemory {
  /** A view of the first bytes, or of all. */
  readonly first: Uint8Array;
  /** How many there are. */
  readonly bytes: number;
}

/** The memory of some values, all of which are seen. */
export function memoryOf({ buffer, byteOffset, byteLength }: Float32Array): HostMemory {
  return { first: new Uint8Array(buffer, byteOffset, byteLength), bytes: byteLength };
}

/** The f32 values in memory of which all is seen. */
export function valuesIn({ first, bytes }: HostMemory): Float32Array {
  return new Float32Array(first.buffer, first.byteOffset, bytes / 4);
}
