/**
 * A folder as one file to download.
 *
 * @module
 */

import { FileError } from "@firn/train";
import { Zip, ZipPassThrough } from "fflate";
import type { Place } from "./session.ts";

/** Bytes that are read at once. */
const CHUNK = 2 ** 22;

/** Offsets of this form of zip have 32 bits. */
const MOST = 2 ** 32 - 2 ** 20;

/** The same folder gives the same bytes: the first day that a zip can name. */
const DATE = "1980-01-01T00:00:00";

/**
 * Packs the files of a folder, as they are: weights do not get smaller.
 *
 * @param place The folder, and its file system
 * @param folder What the folder is called in the file
 * @returns A zip file
 * @throws {FileError} When they have more than 4 GB
 */
export async function zipFolder({ path, fileSystem }: Place, folder: string): Promise<Blob> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const zip = new Zip((error, part) => {
    if (error !== null) throw error;
    parts.push(part as Uint8Array<ArrayBuffer>);
  });
  const names = (await fileSystem.list(path)).filter(({ kind }) => kind === "file").map(({ name }) => name);
  let bytes = 0;
  for (const name of names.toSorted()) {
    await using file = await fileSystem.open(`${path}/${name}`);
    bytes += file.size;
    if (bytes > MOST) {
      throw new FileError(
        `Cannot pack "${folder}" as a zip file holds 4 GB: there is more; train an adapter`,
        {
          path: folder,
          code: "EFBIG",
        },
      );
    }
    const entry = new ZipPassThrough(`${folder}/${name}`);
    entry.mtime = DATE;
    zip.add(entry);
    for (let at = 0; at < file.size; at += CHUNK) {
      entry.push(await file.read(at, Math.min(file.size, at + CHUNK)));
    }
    entry.push(new Uint8Array(0), true);
  }
  zip.end();
  return new Blob(parts, { type: "application/zip" });
}
