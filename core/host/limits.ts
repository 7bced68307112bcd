/**
 * Limits on what is read as a whole.
 *
 * @module
 */

import { FileError } from "../errors.ts";

/**
 * Refuses a file that is too large to read as a whole.
 *
 * @param path The file
 * @param sizes Its size and the limit, in bytes
 * @throws {FileError} When the size is above the limit
 */
export function checkSize(
  path: string,
  { size, limit }: { readonly size: number; readonly limit: number },
): void {
  if (size <= limit) return;
  const count = (n: number): string => n.toLocaleString("en-US");
  throw new FileError(
    `Cannot read "${path}" as a file of its kind may have ${count(limit)} bytes: it has ${
      count(size)
    }; check the path`,
    { path, code: "EFBIG" },
  );
}
