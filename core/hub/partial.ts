/**
 * A file of the cache that is on its way: it grows at its end, is kept when the process dies, and knows its hash.
 *
 * @module
 */

import type { Hash } from "node:crypto";
import { FileError } from "../errors.ts";
import { fileError } from "../host/file_errors.ts";
import type { FileSystem } from "../host/file_system.ts";
import type { HubFile } from "./repository.ts";

/** A file that is on its way. */
export interface PartialFile {
  /** Bytes that are there. */
  size(): number;
  /** Adds bytes at its end. */
  append(bytes: Uint8Array): Promise<void>;
  /** Drops what is there. */
  restart(): Promise<void>;
  /** Whether it is whole and has the hash that the hub says; asked once, or after a restart. */
  isRight(): boolean;
  /** Moves it to the path of the blob. */
  finish(): Promise<void>;
}

/** Bytes that are read at a time. */
const CHUNK = 2 ** 22;

/**
 * Opens a file that is on its way, with what arrived earlier.
 *
 * @param blob Path of the blob that it becomes
 * @param options What the hub says of it, and where it is
 * @returns The file
 * @throws {FileError} When the machine refuses it
 */
export async function openPartial(
  blob: string,
  { file, fileSystem }: { readonly file: HubFile; readonly fileSystem: FileSystem },
): Promise<PartialFile> {
  // The name that `huggingface_hub` gives it.
  const path = `${blob}.incomplete`, newHash = await hashing(file);
  let hash = newHash(), size = 0;
  const restart = async (): Promise<void> => {
    await fileSystem.write(path, "");
    hash = newHash(), size = 0;
  };
  const info = await fileSystem.stat(path);
  if (info?.kind !== "file" || info.size > file.size) await restart();
  else {
    await using open = await fileSystem.open(path);
    for (; size < open.size; size += CHUNK) {
      hash.update(await open.read(size, Math.min(size + CHUNK, open.size)));
    }
    size = open.size;
  }
  return {
    size: () => size,
    restart,
    async append(bytes) {
      try {
        await fileSystem.append(path, bytes);
      } catch (error) {
        if (!(error instanceof FileError) || !["ENOSPC", "EDQUOT"].includes(error.code)) throw error;
        throw fileError(error.code, { action: "write", path: blob, bytes: file.size - size, cause: error });
      }
      hash.update(bytes);
      size += bytes.length;
    },
    isRight: () => size === file.size && hash.digest("hex") === file.hash,
    async finish() {
      // On the disk before it has its name: a blob is whole, even after a loss of power.
      await fileSystem.append(path, "", { flush: true });
      await fileSystem.rename(path, blob);
    },
  };
}

/** Begins the hash of a file: of large ones SHA-256, of others that of git. */
async function hashing({ hash, size }: HubFile): Promise<() => Hash> {
  const { createHash } = await import("node:crypto");
  return hash.length === 64 ? () => createHash("sha256") : () => createHash("sha1").update(`blob ${size}\0`);
}
