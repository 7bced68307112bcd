/**
 * Writes that happen completely or not at all.
 *
 * @module
 */

/**
 * Writes a file into a temporary sibling, flushes it to disk and renames it: a reader sees the old file or the
 * whole new one. Needs write permission for the folder, not only for the file.
 *
 * @param path Where; an existing file is replaced
 * @param content Text, bytes, or a function that writes to the open temporary file
 * @throws What writing throws; the temporary file is removed then and the old file is as it was
 */
export async function writeAtomic(
  path: string,
  content: string | Uint8Array | ((file: Deno.FsFile) => Promise<void>),
): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  const file = await Deno.open(temporary, { write: true, createNew: true });
  try {
    try {
      if (typeof content === "function") await content(file);
      else await writeAll(file, typeof content === "string" ? new TextEncoder().encode(content) : content);
      await file.sync();
    } finally {
      file.close();
    }
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary);
    throw error;
  }
}

/**
 * Writes all bytes to an open file, however few one call takes.
 *
 * @param file An open file
 * @param bytes The bytes
 */
export async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}

/**
 * Fills a temporary sibling folder, then puts it in the place of the folder. The old folder is renamed away first
 * and removed last, so at every moment one whole version exists: should the process die between the two renames,
 * both lie beside the path, as `<folder>.<id>.old` and `<folder>.<id>.tmp`.
 *
 * @param folder Where; missing parents are not made
 * @param fill Writes the new content into the folder that it is given
 * @throws {Deno.errors.AlreadyExists} When the old folder holds something that the new one lacks: nothing is ever
 * lost that was not replaced
 * @throws What `fill` throws; the temporary folder is removed then and the old folder is as it was
 */
export async function replaceFolder(
  folder: string,
  fill: (temporary: string) => Promise<void>,
): Promise<void> {
  const place = folder.replace(/(?<=.)[\\/]+$/, "");
  const id = crypto.randomUUID();
  const [temporary, old] = [`${place}.${id}.tmp`, `${place}.${id}.old`];
  await Deno.mkdir(temporary);
  let replaced = false;
  try {
    await fill(temporary);
    replaced = await isFolder(place);
    if (replaced) {
      await checkSuperseded(place, temporary);
      await Deno.rename(place, old);
    }
    try {
      await Deno.rename(temporary, place);
    } catch (error) {
      if (replaced) await Deno.rename(old, place);
      throw error;
    }
  } catch (error) {
    await Deno.remove(temporary, { recursive: true });
    throw error;
  }
  if (replaced) await Deno.remove(old, { recursive: true });
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function checkSuperseded(old: string, fresh: string): Promise<void> {
  const names = new Map<string, boolean>();
  for await (const { name, isDirectory } of Deno.readDir(fresh)) names.set(name, isDirectory);
  for await (const { name, isDirectory } of Deno.readDir(old)) {
    if (names.get(name) !== isDirectory) {
      throw new Deno.errors.AlreadyExists(
        `Cannot replace "${old}" as it holds "${name}", which would be lost: choose another folder or move it away`,
      );
    }
    if (isDirectory) await checkSuperseded(`${old}/${name}`, `${fresh}/${name}`);
  }
}
