/**
 * Memory that native code works in, of which a program needs to see the first bytes only.
 *
 * @module
 */

/**
 * Memory that a driver has mapped, by its first bytes. V8 counts the bytes of each view of such memory, and collects garbage where they
 * are many: with views of all, an exchange of 500 MB pauses up to four times for that (tests/bench/RESULTS.md).
 */
export interface MappedMemory {
  /** A view of the first bytes, or of all. */
  readonly first: Uint8Array;
  /** How many there are. */
  readonly bytes: number;
}

/** The memory of some values, all of which are seen. */
export function memoryOf({ buffer, byteOffset, byteLength }: Float32Array): MappedMemory {
  return { first: new Uint8Array(buffer, byteOffset, byteLength), bytes: byteLength };
}

/**
 * The f32 values in memory of which all is seen.
 *
 * @throws {RangeError} When it is not: what follows in the buffer of a view is other memory
 */
export function valuesIn({ first, bytes }: MappedMemory): Float32Array {
  if (first.length < bytes) {
    throw new RangeError(
      `Cannot read mapped memory as all of it must be seen: ${first.length} of ${bytes} bytes are`,
    );
  }
  return new Float32Array(first.buffer, first.byteOffset, bytes / 4);
}
