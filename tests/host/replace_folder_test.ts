import { assertEquals, assertRejects } from "@std/assert";
import { AlreadyExistsError } from "@firn/train";
import { replaceFolder } from "@firn/train/data";
import { systemFileSystem } from "../../core/host/system_file_system.ts";
import { inFolder } from "../data/files.ts";

async function listing(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).toSorted();
}

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
      () => replaceFolder(`${folder}/model`, () => Promise.reject(new RangeError("no"))),
      RangeError,
    );
    assertEquals(await Deno.readTextFile(`${folder}/model/x`), "old");
    assertEquals(await listing(folder), ["model"]);
  });
});

Deno.test("replaceFolder puts the old folder back when the new one cannot take its place", async () => {
  await inFolder(async (folder) => {
    await Deno.mkdir(`${folder}/model`);
    await Deno.writeTextFile(`${folder}/model/x`, "old");
    const rename: typeof Deno.rename = (from, to) =>
      String(from).endsWith(".tmp") ? Promise.reject(new RangeError("in use")) : Deno.rename(from, to);
    const fileSystem = systemFileSystem({ ...Deno, rename });
    const fill = (temporary: string) => Deno.writeTextFile(`${temporary}/x`, "new");
    await assertRejects(() => replaceFolder(`${folder}/model`, fill, { fileSystem }), RangeError, "in use");
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
      AlreadyExistsError,
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
