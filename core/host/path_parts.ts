/**
 * Paths as parts.
 *
 * @module
 */

import { type Attempt, fileError } from "./file_errors.ts";

/**
 * Splits a path.
 *
 * @param attempt What is tried with it
 * @returns Its parts; none for the root, which is `""` and `"."`
 * @throws {FileError} When a part is `..`, which would lead out of the root, has another kind of slash, or is no text that can be
 * written as UTF-8
 */
export function partsOf(attempt: Attempt): string[] {
  const parts = attempt.path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..") || attempt.path.includes("\\") || !attempt.path.isWellFormed()) {
    throw fileError("EINVAL", attempt);
  }
  return parts;
}
