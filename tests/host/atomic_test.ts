import { assertEquals, assertRejects } from "@std/assert";
import { replaceFolder, writeAll, writeAtomic } from "../../core/host/atomic.ts";
import { inFolder } from "../data/files.ts";

async function listing(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).toSorted();
}

Deno.test("writeAtomic writes text, bytes and what a function writes, over an old file too", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/x`;
    await writeAtomic(path, "ä");
    assertEquals(await Deno.readFile(path), new Uint8Array([0xc3, 0xa4]));
    await writeAtomic(path, new Uint8Array([1, 2]));
    assertEquals(await Deno.readFile(path), new Uint8Array([1, 2]));
    await writeAtomic(path, async (file) => void await file.write(new Uint8Array([3])));
    assertEquals(await Deno.readFile(path), new Uint8Array([3]));
    assertEquals(await listing(folder), ["x"]);
  });
});

Deno.test("writeAtomic keeps the old file and removes the temporary one when writing or renaming fails", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/x`, "old");
    const failing = async (file: Deno.FsFile) => {
      await file.write(new Uint8Array([1]));
      throw new TypeError("full disk");
    };
    await assertRejects(() => writeAtomic(`${folder}/x`, failing), TypeError, "full disk");
    assertEquals(await Deno.readTextFile(`${folder}/x`), "old");
    await Deno.mkdir(`${folder}/taken`);
    await assertRejects(() => writeAtomic(`${folder}/taken`, "new"));
    assertEquals(await listing(folder), ["taken", "x"]);
  });
});

Deno.test("writeAll goes on until every byte is written", async () => {
  const written: number[] = [];
  const write = (bytes: Uint8Array) =>
    Promise.resolve(written.push(...bytes.subarray(0, 2)) && Math.min(2, bytes.length));
  await writeAll({ write } as Deno.FsFile, new Uint8Array([1, 2, 3, 4, 5]));
  assertEquals(written, [1, 2, 3, 4, 5]);
});

Deno.test("replaceFolder makes a folder and replaces it with all that is in it", async () => {
  await inFolder(async (folder) => {
    const place = `${folder}/model/`;
    for (const content of ["first", "second"]) {
      await replaceFolder(place, async (temporary) => {
        await Deno.mkdir(`${temporary}/adapter`);
        await Deno.writeTextFile(`${temporary}/adapter/x`, content);
      });
      assertEquals(await Deno.readTextFile(`${place}/adapter/x`), content);
      assertEquals(await listing(folder), ["model"]);
    }
  });
});

Deno.test("replaceFolder keeps the old folder when filling fails", async () => {
  await inFolder(async (folder) => {
    await Deno.mkdir(`${folder}/model`);
    await Deno.writeTextFile(`${folder}/model/x`, "old");
    await assertRejects(
      () => replaceFolder(`${folder}/model`, () => Promise.reject(new TypeError("no"))),
      TypeError,
    );
    assertEquals(await Deno.readTextFile(`${folder}/model/x`), "old");
    assertEquals(await listing(folder), ["model"]);
  });
});

Deno.test("replaceFolder puts the old folder back when the new one cannot take its place", async () => {
  await inFolder(async (folder) => {
    await Deno.mkdir(`${folder}/model`);
    await Deno.writeTextFile(`${folder}/model/x`, "old");
    const { rename } = Deno;
    const failing: typeof rename = (from, to) =>
      String(from).endsWith(".tmp") ? Promise.reject(new TypeError("in use")) : rename(from, to);
    Object.assign(Deno, { rename: failing });
    try {
      const fill = (temporary: string) => Deno.writeTextFile(`${temporary}/x`, "new");
      await assertRejects(() => replaceFolder(`${folder}/model`, fill), TypeError, "in use");
    } finally {
      Object.assign(Deno, { rename });
    }
    assertEquals(await Deno.readTextFile(`${folder}/model/x`), "old");
    assertEquals(await listing(folder), ["model"]);
  });
});

Deno.test("replaceFolder refuses to lose what it does not replace", async () => {
  await inFolder(async (folder) => {
    await Deno.mkdir(`${folder}/model/deep`, { recursive: true });
    await Deno.writeTextFile(`${folder}/model/deep/notes.txt`, "mine");
    const fill = async (temporary: string) => {
      await Deno.mkdir(`${temporary}/deep`);
      await Deno.writeTextFile(`${temporary}/deep/x`, "new");
    };
    await assertRejects(
      () => replaceFolder(`${folder}/model`, fill),
      Deno.errors.AlreadyExists,
      '"notes.txt"',
    );
    assertEquals(await Deno.readTextFile(`${folder}/model/deep/notes.txt`), "mine");
    assertEquals(await listing(folder), ["model"]);
  });
});

Deno.test("replaceFolder refuses the place of a file", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/model`, "a file");
    await assertRejects(() => replaceFolder(`${folder}/model`, () => Promise.resolve()));
    assertEquals(await Deno.readTextFile(`${folder}/model`), "a file");
    assertEquals(await listing(folder), ["model"]);
  });
});
